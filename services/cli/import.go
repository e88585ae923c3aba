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
	return s.printImports(all, *dry)
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

func (s *session) printImports(all []fileImport, dry bool) error {
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
	switch {
	case wrong > 0 && dry:
		return fmt.Errorf("%d of %d cannot be imported so", wrong, total)
	case wrong > 0:
		return fmt.Errorf("%d of %d were not imported", wrong, total)
	default:
		return nil
	}
}
