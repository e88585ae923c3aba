package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// maxFile is the largest file that the server takes in, in bytes.
const maxFile = 512 << 10

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

// fileImport is what became of one file, as programs see it.
type fileImport struct {
	File   string          `json:"file"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	parsed client.CertificateImportResult
}

func importCerts(ctx context.Context, s *session, args []string) error {
	var b client.CertificateImport
	tags := map[string]string{}
	format := s.flags.String("type", "auto", "auto, pem, pkcs12 or jks")
	s.flags.Func("tag", "a tag as NAME=VALUE; may be given again", func(v string) error {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return errors.New("must be like tier=gold")
		}
		tags[name] = value
		return nil
	})
	texts := map[string]**string{
		"environment": &b.Environment, "owner": &b.OwnerID, "team": &b.TeamID, "issuer-id": &b.IssuerID,
		"renewal-policy": &b.RenewalPolicyID, "profile-id": &b.CertificateProfileID,
	}
	for _, f := range [][2]string{
		{"environment", "their environment"},
		{"owner", "their owner"},
		{"team", "their team"},
		{"issuer-id", "the issuer that is to renew them (default iss-local)"},
		{"renewal-policy", "their renewal policy"},
		{"profile-id", "the profile whose rules they keep from their next issue on"},
	} {
		s.flags.Func(f[0], f[1], func(v string) error { *texts[f[0]] = &v; return nil })
	}
	dry := s.flags.Bool("dry-run", false, "say what would become of each, and change nothing")
	keep := s.flags.Bool("keep-key", false, "have the server keep the private keys in the files, sealed; otherwise it drops them")
	exportable := s.flags.Bool("exportable", false, "let the keys that are kept leave the server again; for good")
	password := s.passwordFlag("the password of all the files")
	files, err := s.some(args)
	if err != nil {
		return err
	}
	given, err := password()
	if err != nil {
		return err
	}
	kind := client.CertificateImportFormat(*format)
	b.Format, b.DryRun, b.KeepKey, b.Exportable, b.Password = &kind, dry, keep, exportable, optional[string](given)
	if len(tags) > 0 {
		b.Tags = &tags
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	all := make([]fileImport, len(files))
	for i, file := range files {
		all[i] = s.importFile(ctx, c, file, b)
	}
	return s.printImports(all)
}

// importFile imports one file, and asks for its password if the server needs one.
func (s *session) importFile(ctx context.Context, c *client.Client, file string, b client.CertificateImport) (f fileImport) {
	f.File = file
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%s is larger than %d KiB; split it", file, maxFile>>10)
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(file)
	}
	if err == nil && len(content) == 0 {
		err = fmt.Errorf("%s is empty", file)
	}
	if err != nil {
		f.Error = err.Error()
		return f
	}
	b.File = base64.StdEncoding.EncodeToString(content)
	res, err := c.ImportCertificates(ctx, b)
	var p objections
	f.Result, err = p.read(res, err, &f.parsed)
	if err != nil && p.names("password") && b.Password == nil {
		typed, askErr := s.ask("Password of " + harmless(file) + ": ")
		if askErr != nil {
			f.Error = askErr.Error()
			return f
		}
		b.Password = &typed
		res, err = c.ImportCertificates(ctx, b)
		f.Result, err = decode(res, err, &f.parsed)
	}
	if err != nil {
		f.Error = err.Error()
	}
	return f
}

// objections are what a server says is wrong that refuses.
type objections struct{ client.Problem }

// read is decode, and keeps the problem.
func (p *objections) read(res *http.Response, err error, v any) ([]byte, error) {
	if err == nil && res.StatusCode == http.StatusBadRequest {
		body, readErr := io.ReadAll(res.Body)
		if closeErr := res.Body.Close(); readErr == nil {
			readErr = closeErr
		}
		if readErr == nil {
			_ = json.Unmarshal(body, &p.Problem) // what is no problem document names nothing
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
	}
	return decode(res, err, v)
}

func (p *objections) names(field string) bool {
	if p.Errors == nil {
		return false
	}
	for _, e := range *p.Errors {
		if e.Field == field {
			return true
		}
	}
	return false
}

func (s *session) printImports(all []fileImport) error {
	var rows [][]string
	wrong, total := 0, 0
	for i := range all {
		f := &all[i]
		if f.Error != "" {
			wrong, total = wrong+1, total+1
			rows = append(rows, []string{f.File, "failed", "", "", "", "", f.Error})
			continue
		}
		wrong, total = wrong+f.parsed.Refused, total+len(f.parsed.Data)
		for _, item := range f.parsed.Data {
			name := text(item.CommonName)
			if name == "" {
				name = item.Subject
			}
			rows = append(rows, []string{f.File, string(item.Status), name, date(item.NotAfter), string(item.Key), text(item.CertificateID), text(item.Reason)})
		}
	}
	var err error
	if s.json {
		var encoded []byte
		if encoded, err = json.Marshal(all); err == nil {
			err = s.printJSON(encoded)
		}
	} else {
		err = s.table([]string{"FILE", "STATUS", "NAME", "EXPIRES", "KEY", "CERTIFICATE", "REASON"}, rows)
	}
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.parsed.Notice != nil {
			fmt.Fprintf(s.Err, "%s: %s\n", harmless(f.File), harmless(*f.parsed.Notice))
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d were not imported", wrong, total)
	}
	return nil
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
	if *out == "" && *format != "pem" {
		fmt.Fprintln(s.Err, "certctl-cli: --out is needed for a file that is no text")
		return errUsage
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
	if err != nil {
		return fmt.Errorf("make the file before the key is asked for: %w", err)
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
