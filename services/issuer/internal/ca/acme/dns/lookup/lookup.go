// Package lookup asks the DNS: each question within a context, of the servers that it is told to ask, with an answer that
// tells apart what has to be mended in different places.
//
// It keeps no answers: what was not there a moment ago may be there now, and that is what it is asked for. Name servers
// that cannot be reached it leaves alone for a minute, for a network that hides one often hides all. It does not check signatures itself; it tells whether the resolver that it asks does not answer because of them.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// patience is for one packet to one server, of which the network may lose one.
	patience = 2 * time.Second
	tries    = 2
	// leftAlone is how long a name server is not asked that was not reached.
	leftAlone = time.Minute
	// udpSize is what passes any network in one piece.
	udpSize    = 1232
	resolvConf = "/etc/resolv.conf"
	port       = "53"
)

// Outcome is how a question ended.
type Outcome string

// The outcomes. The first three are answers; the others are about those who were to answer.
const (
	Found Outcome = "found"
	// NoData means that there is the name, and nothing of that type.
	NoData Outcome = "no_data"
	// NoName means that there is no such name (NXDOMAIN).
	NoName Outcome = "no_name"
	// Bogus means that the resolver does not believe the signatures of the zone (DNSSEC).
	Bogus Outcome = "dnssec"
	// Failed means that the resolver got no answer from the zone's name servers (SERVFAIL).
	Failed Outcome = "servfail"
	// Refused means that the server does not want to answer this client.
	Refused Outcome = "refused"
	// Silent means that no server was reached.
	Silent Outcome = "unreachable"
)

// Answered tells whether the name's own zone has answered, be it that there is nothing.
func (o Outcome) Answered() bool { return o == Found || o == NoData || o == NoName }

// Answer is what came of a question.
type Answer struct {
	Outcome Outcome
	// Records are the answer's, those that led there (CNAME) too.
	Records []dns.RR
	// Authority are those that say whose answer it is.
	Authority []dns.RR
	// Says is the outcome in words, without the name.
	Says string
}

// Resolver asks recursive resolvers, and authoritative servers that it has found by them. It is safe for concurrent use.
type Resolver struct {
	servers []string
	// AuthorityPort is where authoritative servers are asked; empty is 53.
	AuthorityPort string

	// unreached has the time until which a server is left alone, by its address.
	unreached sync.Map
}

// New returns a resolver that asks servers, each a host, or host:port; without any it asks the system's.
func New(servers ...string) *Resolver {
	r := &Resolver{}
	for _, s := range servers {
		r.servers = append(r.servers, withPort(s))
	}
	if len(r.servers) > 0 {
		return r
	}
	if system, err := dns.ClientConfigFromFile(resolvConf); err == nil {
		for _, s := range system.Servers {
			r.servers = append(r.servers, net.JoinHostPort(s, system.Port))
		}
	}
	return r
}

func withPort(server string) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), port)
}

// Servers are who is asked, each as host:port.
func (r *Resolver) Servers() []string { return slices.Clone(r.servers) }

// Ask asks the resolvers, one after the other until one has an answer.
func (r *Resolver) Ask(ctx context.Context, name string, kind uint16) Answer {
	if len(r.servers) == 0 {
		return Answer{Outcome: Silent, Says: "no resolver is known: " + resolvConf + " names none"}
	}
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	question.SetEdns0(udpSize, false)
	var last Answer
	for _, server := range r.servers {
		last = judge(ask(ctx, server, question))
		if last.Outcome.Answered() || ctx.Err() != nil {
			return last
		}
		if last.Outcome == Failed {
			return r.doubt(ctx, server, question, last)
		}
	}
	return last
}

// doubt tells whether a question fails for its signatures: then it is answered to whoever does not want them checked.
func (r *Resolver) doubt(ctx context.Context, server string, question *dns.Msg, failed Answer) Answer {
	unchecked := question.Copy()
	unchecked.CheckingDisabled = true
	if judge(ask(ctx, server, unchecked)).Outcome.Answered() {
		return Answer{Outcome: Bogus, Says: "the signatures of its zone are wrong (DNSSEC): resolvers that check them do not believe the answer"}
	}
	return failed
}

// AskAt asks one authoritative server, which is not to ask others. One that was not reached is not asked for a minute.
func (r *Resolver) AskAt(ctx context.Context, server, name string, kind uint16) Answer {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	question.SetEdns0(udpSize, false)
	question.RecursionDesired = false
	if until, ok := r.unreached.Load(server); ok && time.Now().Before(until.(time.Time)) {
		return Answer{Outcome: Silent, Says: "the DNS server has not answered a moment ago"}
	}
	answer := judge(ask(ctx, server, question))
	if answer.Outcome == Silent && ctx.Err() == nil {
		r.unreached.Store(server, time.Now().Add(leftAlone))
	}
	return answer
}

// ask carries out one exchange, and over TCP again if the answer was cut off.
func ask(ctx context.Context, server string, question *dns.Msg) (*dns.Msg, error) {
	var answer *dns.Msg
	var err error
	for range tries {
		answer, err = Exchange(ctx, &dns.Client{Net: "udp", Timeout: patience}, server, question)
		if lost, ok := errors.AsType[net.Error](err); !ok || !lost.Timeout() || ctx.Err() != nil {
			break
		}
	}
	if err == nil && answer.Truncated {
		return Exchange(ctx, &dns.Client{Net: "tcp", Timeout: patience}, server, question)
	}
	return answer, err
}

// Exchange sends a message and returns the answer. Other than the client's own way it ends when ctx does.
func Exchange(ctx context.Context, client *dns.Client, server string, message *dns.Msg) (*dns.Msg, error) {
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	answer, _, err := client.ExchangeWithConnContext(ctx, message, conn)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, err
}

func judge(m *dns.Msg, err error) Answer {
	if err != nil {
		return Answer{Outcome: Silent, Says: "the DNS server does not answer: " + err.Error()}
	}
	a := Answer{Records: m.Answer, Authority: m.Ns}
	switch {
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0:
		a.Outcome, a.Says = Found, "it is there"
	case m.Rcode == dns.RcodeSuccess:
		a.Outcome, a.Says = NoData, "there is the name, but no such record"
	case m.Rcode == dns.RcodeNameError:
		a.Outcome, a.Says = NoName, "there is no such name (NXDOMAIN)"
	case m.Rcode == dns.RcodeRefused:
		a.Outcome, a.Says = Refused, "the DNS server refuses to answer (REFUSED)"
	default:
		a.Outcome, a.Says = Failed, fmt.Sprintf("the resolver cannot find out (%s): the zone's name servers do not answer, or answer nonsense", dns.RcodeToString[m.Rcode])
	}
	return a
}
