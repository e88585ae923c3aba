package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func listIssuers(ctx context.Context, s *session, args []string) error {
	limit := s.flags.Int("limit", defaultLimit, "rows at most, up to 500")
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ListIssuers(ctx, &client.ListIssuersParams{PerPage: limit})
	var list client.IssuerList
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, issuer := range list.Data {
		ends := "-"
		if issuer.CaNotAfter != nil {
			ends = date(*issuer.CaNotAfter)
		}
		circuit, away := standing(issuer.Health)
		warnings := strings.Trim(text(issuer.CaExpiryWarning)+"; "+away, "; ")
		rows[i] = []string{issuer.ID, issuer.Name, issuer.Type, strconv.FormatBool(issuer.Enabled), ends, circuit, warnings}
	}
	if err := s.table([]string{"ID", "NAME", "TYPE", "ENABLED", "CA ENDS", "CIRCUIT", "WARNING"}, rows); err != nil {
		return err
	}
	return s.shown(len(rows), list.Total)
}

// standing is the state of an issuer's circuit, and if that is not closed what is the matter. Both are empty of one that was
// never asked.
func standing(h *client.IssuerHealth) (circuit, away string) {
	if h == nil {
		return "", ""
	}
	circuit = string(h.Circuit)
	if h.Circuit == client.Closed {
		return circuit, ""
	}
	away = fmt.Sprintf("its CA fails, %d jobs wait", h.Waiting)
	if h.Circuit == client.HalfOpen {
		away += ", tried with the next request"
	} else if h.RetryAt != nil {
		away += ", tried again at " + h.RetryAt.UTC().Format(time.RFC3339)
	}
	if h.LastError != nil {
		away += ": " + *h.LastError
	}
	return circuit, away
}

func listCAKeys(ctx context.Context, s *session, args []string) error {
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ListIssuerKeys(ctx, rest[0])
	var list client.IssuerKeyList
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, k := range list.Data {
		ends, valid := "-", "-"
		if k.NotAfter != nil {
			ends = date(*k.NotAfter)
		}
		if k.ValidCertificates != nil {
			valid = strconv.FormatInt(*k.ValidCertificates, 10)
		}
		rows[i] = []string{k.ID, string(k.Status), k.KeyAlgorithm, text(k.Subject), ends, valid}
	}
	return s.table([]string{"ID", "STATUS", "ALGORITHM", "SUBJECT", "ENDS", "VALID CERTIFICATES"}, rows)
}

func rollOverIssuer(ctx context.Context, s *session, args []string) error {
	name := s.flags.String("common-name", "", "of the new certificate (default that of the old one)")
	algorithm := s.flags.String("key-algorithm", "", "RSA-2048, RSA-3072, RSA-4096, ECDSA-P256, ECDSA-P384 or Ed25519 (default as before)")
	days := s.flags.Int("days", 0, "how long the new certificate holds (default as the old one was meant to)")
	cross := s.flags.Bool("cross-sign", false, "have the old root sign a certificate for the new one too")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	body := client.IssuerRollover{CommonName: optional[string](*name), KeyAlgorithm: optional[string](*algorithm), CrossSign: cross}
	if *days != 0 {
		body.CaValidityDays = days
	}
	res, err := c.RollOverIssuer(ctx, rest[0], body)
	var k client.IssuerKey
	raw, err := decode(res, err, &k)
	if err != nil {
		return err
	}
	return s.printCAKey(raw, k)
}

func activateCAKey(ctx context.Context, s *session, args []string) error {
	rest, err := s.arguments(args, 2)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ActivateIssuerKey(ctx, rest[0], rest[1])
	var k client.IssuerKey
	raw, err := decode(res, err, &k)
	if err != nil {
		return err
	}
	return s.printCAKey(raw, k)
}

func (s *session) printCAKey(raw []byte, k client.IssuerKey) error {
	if s.json {
		return s.printJSON(raw)
	}
	_, err := fmt.Fprintf(s.Out, "%s signs with %s, %s %s\n", printable(k.IssuerID), printable(k.ID), printable(k.KeyAlgorithm), printable(text(k.Subject)))
	return err
}

// caRequest prints the request in PEM, ready to be sent to whoever signs it.
func caRequest(ctx context.Context, s *session, args []string) error {
	again := s.flags.Bool("new", false, "make a further key, and drop a request that waits")
	name := s.flags.String("common-name", "", "of a further key's certificate (default that of the old one)")
	algorithm := s.flags.String("key-algorithm", "", "of a further key (default as before)")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	if !*again && (*name != "" || *algorithm != "") {
		return errors.New("--common-name and --key-algorithm are for a further key: give --new as well")
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var request client.IssuerCARequest
	var raw json.RawMessage
	if *again {
		res, err := c.CreateIssuerCARequest(ctx, rest[0], client.IssuerCARequestCreate{
			CommonName: optional[string](*name), KeyAlgorithm: optional[string](*algorithm),
		})
		if raw, err = decode(res, err, &request); err != nil {
			return err
		}
	} else {
		res, err := c.GetIssuerCARequest(ctx, rest[0])
		if raw, err = decode(res, err, &request); err != nil {
			return err
		}
	}
	if s.json {
		return s.printJSON(raw)
	}
	_, err = io.WriteString(s.Out, escaped(request.CsrPem))
	return err
}

func caCertificate(ctx context.Context, s *session, args []string) error {
	rest, err := s.arguments(args, 2)
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(rest[1])
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.CompleteIssuerCARequest(ctx, rest[0], client.IssuerCACertificate{CaCertPem: string(certificate)})
	var k client.IssuerKey
	raw, err := decode(res, err, &k)
	if err != nil {
		return err
	}
	return s.printCAKey(raw, k)
}
