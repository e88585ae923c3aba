package cli

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func listBlockedKeys(ctx context.Context, s *session, args []string) error {
	limit := s.flags.Int("limit", defaultLimit, "rows at most, up to 500")
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ListBlockedKeys(ctx, &client.ListBlockedKeysParams{PerPage: limit})
	var list client.BlockedKeyList
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, k := range list.Data {
		rows[i] = []string{k.ID, string(k.Reason), k.BlockedBy, date(k.CreatedAt), k.Comment}
	}
	if err := s.table([]string{"KEY (SHA-256)", "REASON", "BY", "SINCE", "COMMENT"}, rows); err != nil {
		return err
	}
	return s.shown(len(rows), list.Total)
}

func blockKey(ctx context.Context, s *session, args []string) error {
	reason := s.flags.String("reason", "", "keyCompromise, weak or other")
	comment := s.flags.String("comment", "", "what is to be known about it")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	if *reason == "" {
		fmt.Fprintln(s.Err, "certctl-cli: say why, such as --reason keyCompromise")
		return errUsage
	}
	body := client.BlockedKeyCreate{Reason: client.BlockedKeyReason(*reason), Comment: optional[string](*comment)}
	if err := nameKey(&body, rest[0]); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var k client.BlockedKey
	res, err := c.BlockKey(ctx, body)
	raw, err := decode(res, err, &k)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(raw)
	}
	_, err = fmt.Fprintf(s.Out, "%s is blocked\n", printable(k.ID))
	return err
}

// nameKey names a key by what an argument is: its hash, or the file of a certificate, a request or a public key. A private
// key stays here.
func nameKey(body *client.BlockedKeyCreate, argument string) error {
	if raw, err := hex.DecodeString(strings.ReplaceAll(argument, ":", "")); err == nil && len(raw) == 32 {
		body.SpkiSha256 = &argument
		return nil
	}
	content, err := os.ReadFile(argument)
	if err != nil {
		return fmt.Errorf("it is no SHA-256 of a key, and no file: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return errors.New(argument + " is not PEM")
	}
	// Only this block: what else is in the file is nobody's business.
	text := string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	switch {
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return errors.New(argument + " is a private key, which is sent nowhere; take its public half: openssl pkey -pubout")
	case block.Type == "CERTIFICATE":
		body.CertificatePem = &text
	case strings.HasSuffix(block.Type, "CERTIFICATE REQUEST"):
		body.CsrPem = &text
	default:
		body.PublicKeyPem = &text
	}
	return nil
}

func unblockKey(ctx context.Context, s *session, args []string) error {
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.UnblockKey(ctx, rest[0])
	if err := done(res, err); err != nil {
		return err
	}
	if s.json {
		return s.printJSON([]byte(`{"status":"unblocked"}`))
	}
	_, err = fmt.Fprintf(s.Out, "%s is not blocked any more\n", printable(rest[0]))
	return err
}
