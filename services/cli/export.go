package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// passwordFlag adds the flag for a file with a password. The flags must have been parsed when the function is called; it
// returns an empty password if the flag was not given.
func (s *session) passwordFlag(what string) func() (string, error) {
	file := s.flags.String("password-file", "", "a file whose first line is "+what+"; without it you are asked, if need be")
	return func() (string, error) {
		if *file == "" {
			return "", nil
		}
		b, err := os.ReadFile(*file)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			return "", fmt.Errorf("read the password: the first line of %s is empty", *file)
		}
		return line, nil
	}
}

// ask has a person type a password.
func (s *session) ask(prompt string) (string, error) {
	if s.Ask == nil {
		return "", errors.New("a password is needed, and there is no terminal to ask at: give --password-file")
	}
	return s.Ask(prompt)
}

func exportCert(ctx context.Context, s *session, args []string) error {
	format := s.flags.String("as", "pem", "pem, der, pkcs7, pkcs12 or jks; with a key pem, pkcs12 or jks")
	version := s.flags.String("version-id", "", "a version of it, instead of the newest")
	out := s.flags.String("out", "", "the file to write, readable by you alone; pem may go without")
	withKey := s.flags.Bool("with-key", false, "with its private key, if that is held by the server and may leave, under a password")
	legacy := s.flags.Bool("legacy", false, "encrypt pkcs12 in the old way, for what cannot read better")
	force := s.flags.Bool("force", false, "replace the file if it is there")
	password := s.passwordFlag("what encrypts the key, at least 12 characters")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	switch {
	case *out == "" && *format != "pem":
		fmt.Fprintln(s.Err, "certctl-cli: --out is needed for a file that is no text")
		return errUsage
	case *legacy && (!*withKey || *format != "pkcs12"):
		fmt.Fprintln(s.Err, "certctl-cli: --legacy goes with --as pkcs12 --with-key")
		return errUsage
	}
	// Before a key is released for nothing.
	if err := canWrite(*out, *force); err != nil {
		return err
	}
	given, err := password()
	if err == nil && *withKey && given == "" {
		given, err = s.chosen()
	}
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var body []byte
	if *withKey {
		b := client.CertificateExport{Format: client.CertificateExportFormat(*format), Password: given, VersionID: optional[string](*version)}
		if *legacy {
			old := client.Legacy
			b.Encryption = &old
		}
		body, err = content(c.ExportCertificateWithKey(ctx, rest[0], b))
	} else {
		kind := client.ExportCertificateParamsFormat(*format)
		body, err = content(c.ExportCertificate(ctx, rest[0], &client.ExportCertificateParams{Format: &kind, VersionID: optional[string](*version)}))
	}
	if err != nil {
		return err
	}
	if *out == "" {
		_, err = s.Out.Write(body)
		return err
	}
	if err := writeFile(*out, body, *force); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Err, "written to %s\n", harmless(*out))
	return err
}

// chosen has a person choose a password, twice.
func (s *session) chosen() (string, error) {
	first, err := s.ask("Password for the file, at least 12 characters: ")
	if err != nil {
		return "", err
	}
	second, err := s.ask("Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ; nothing was asked of the server")
	}
	return first, nil
}

func fetchKey(ctx context.Context, s *session, args []string) error {
	version := s.flags.String("version-id", "", "the key of a version of it, instead of the newest")
	out := s.flags.String("out", "", "the file to write the key to, which must not be there yet")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	if *out == "" {
		fmt.Fprintln(s.Err, "certctl-cli: --out is needed: the key is handed out once")
		return errUsage
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	// The file first: a key that has been handed out and cannot be written is lost.
	file, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and the key was not asked for; name a file that is not there yet", harmless(*out))
	}
	if err != nil {
		return fmt.Errorf("the key was not asked for, since there is no file for it: %w", err)
	}
	var k client.CertificateKey
	res, err := c.DeliverCertificateKey(ctx, rest[0], client.CertificateKeyRequest{VersionID: optional[string](*version)})
	if _, err := decode(res, err, &k); err != nil {
		return errors.Join(err, file.Close(), os.Remove(*out))
	}
	_, err = file.WriteString(k.PrivateKeyPem)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the key, which the server has no more: %w", err)
	}
	_, err = fmt.Fprintf(s.Err, "the key of %s is in %s; the server has it no more\n%s\n", harmless(k.VersionID), harmless(*out), harmless(k.Warning))
	return err
}

// content reads an answer that is a file.
func content(res *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("the server was not reached: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("the server broke off its answer: %w", err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return nil, refusal(res, body)
	}
	return body, nil
}
