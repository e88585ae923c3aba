package link

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
)

const tokenPrefix = "cet_"

// enrolment goes on for as long as the leaf or the hub cannot be reached.
var enrolment = retry.Policy{Base: 500 * time.Millisecond, Cap: 30 * time.Second, Jitter: 0.3}

// Enrolment is what a host needs to become an agent.
type Enrolment struct {
	Leaf  Address
	Token string
	// PublicKey is the key that the host made for itself.
	PublicKey string
	// Describe tells what host this is, given the address that it reaches the leaf from.
	Describe func(local string) command.Heartbeat
	Log      *slog.Logger
}

// Enrol exchanges a one-time token for an identity. It tries for as long as the leaf
// or the hub is away; it fails when the token is refused.
func Enrol(ctx context.Context, e Enrolment) (command.EnrolReply, error) {
	token, err := parseToken(e.Token)
	if err != nil {
		return command.EnrolReply{}, err
	}
	var reply command.EnrolReply
	told := ""
	err = retry.Do(ctx, enrolment, func(ctx context.Context) error {
		if err := unexpired(token, time.Now()); err != nil {
			return err
		}
		var err error
		reply, err = e.try(ctx, token)
		if err != nil && fault.VerdictOf(err) == fault.Retry && err.Error() != told {
			told = err.Error()
			e.Log.Warn("not enrolled yet, trying on", "url", e.Leaf.URL, "error", err)
		}
		return err
	})
	if err != nil {
		return command.EnrolReply{}, fmt.Errorf("enrol with token %s: %w", token.ID, err)
	}
	return reply, nil
}

func (e Enrolment) try(ctx context.Context, token command.EnrolmentToken) (command.EnrolReply, error) {
	options := append(e.Leaf.options(subject.AgentEnrol+"-"+token.ID),
		nats.Name("enrol "+token.ID), nats.NoReconnect(),
		// A bearer JWT stands for itself, so there is no key to sign the challenge with.
		nats.UserJWT(func() (string, error) { return token.JWT, nil }, func([]byte) ([]byte, error) { return nil, nil }),
	)
	nc, err := nats.Connect(e.Leaf.URL, options...)
	if authorization(err) {
		return command.EnrolReply{}, fault.Wrap(err, fault.Forbidden,
			"the leaf refuses the token: it is for another site, or was revoked; ask for a new one")
	}
	if err != nil {
		return command.EnrolReply{}, fault.Wrap(err, fault.Unavailable, "the leaf cannot be reached")
	}
	defer nc.Close()
	heartbeat := e.Describe(nc.LocalAddr())
	heartbeat.At = time.Now().UTC()
	return request[command.EnrolReply](ctx, nc, subject.SiteRequest(subject.AgentEnrol, token.ID),
		command.EnrolRequest{Secret: token.Secret, PublicKey: e.PublicKey, Heartbeat: heartbeat})
}

func parseToken(text string) (command.EnrolmentToken, error) {
	var token command.EnrolmentToken
	bad := func(why string) error { return fault.New(fault.Invalid, "the enrolment token %s", why) }
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return token, bad("does not begin with " + tokenPrefix)
	}
	plain, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil || json.Unmarshal(plain, &token) != nil {
		return token, bad("is not whole; copy it again")
	}
	if !subject.Token(token.ID) {
		return token, bad("has no id; copy it again")
	}
	if token.JWT == "" {
		return token, bad("is one of a site, for a leaf; make one for an agent")
	}
	return token, nil
}

// unexpired looks at the token itself, since the leaf would only say that it refuses.
func unexpired(token command.EnrolmentToken, now time.Time) error {
	claims, err := jwt.DecodeUserClaims(token.JWT)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "the enrolment token is not whole; copy it again")
	}
	if claims.Expires > 0 && now.Unix() >= claims.Expires {
		return fault.New(fault.Forbidden, "the enrolment token expired at %s; ask for a new one",
			time.Unix(claims.Expires, 0).UTC().Format(time.RFC3339))
	}
	return nil
}
