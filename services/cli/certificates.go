package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

const defaultLimit = 50

const searchHelp = `only what a search expression finds, such as 'status == "Failed"'`

func listCerts(ctx context.Context, s *session, args []string) error {
	status := s.flags.String("status", "", "only certificates of this status, such as Active")
	issuer := s.flags.String("issuer-id", "", "only certificates of this issuer")
	search := s.flags.String("q", "", searchHelp)
	limit := s.flags.Int("limit", defaultLimit, "rows at most, up to 500")
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ListCertificates(ctx, &client.ListCertificatesParams{
		PerPage: limit, Status: optional[string](*status), IssuerID: optional[string](*issuer), Q: optional[string](*search),
	})
	var list client.CertificateList
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, cert := range list.Data {
		rows[i] = []string{cert.ID, cert.CommonName, string(cert.Status), date(cert.ExpiresAt), cert.IssuerID}
	}
	if err := s.table([]string{"ID", "COMMON NAME", "STATUS", "EXPIRES", "ISSUER"}, rows); err != nil {
		return err
	}
	return s.shown(len(rows), list.Total)
}

// shown tells people how much of the list they see.
func (s *session) shown(n int, total int64) error {
	if int64(n) == total {
		return nil
	}
	_, err := fmt.Fprintf(s.Err, "%d of %d shown\n", n, total)
	return err
}

func getCert(ctx context.Context, s *session, args []string) error {
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var cert client.Certificate
	res, err := c.GetCertificate(ctx, rest[0])
	certBody, err := decode(res, err, &cert)
	if err != nil {
		return err
	}
	var versions client.CertificateVersionList
	res, err = c.ListCertificateVersions(ctx, rest[0], nil)
	versionsBody, err := decode(res, err, &versions)
	if err != nil {
		return err
	}
	if s.json {
		both, err := json.Marshal(map[string]json.RawMessage{"certificate": certBody, "versions": versionsBody})
		if err != nil {
			return err
		}
		return s.printJSON(both)
	}
	return s.printCert(cert, versions)
}

func (s *session) printCert(cert client.Certificate, versions client.CertificateVersionList) error {
	fields := [][]string{
		{"ID", cert.ID},
		{"Name", cert.Name},
		{"Common name", cert.CommonName},
		{"Names", strings.Join(cert.Sans, ", ")},
		{"Status", string(cert.Status)},
		{"Reason", text(cert.StatusReason)},
		{"Expires", date(cert.ExpiresAt)},
		{"Serial", text(cert.SerialNumber)},
		{"SHA-256", text(cert.FingerprintSha256)},
		{"Issuer", cert.IssuerID},
		{"Targets", strings.Join(cert.TargetIds, ", ")},
		{"Owner", cert.OwnerID},
		{"Team", cert.TeamID},
		{"Renewal policy", cert.RenewalPolicyID},
	}
	for _, f := range fields {
		if _, err := fmt.Fprintf(s.Out, "%-15s %s\n", f[0]+":", printable(f[1])); err != nil {
			return err
		}
	}
	if len(versions.Data) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(s.Out); err != nil {
		return err
	}
	rows := make([][]string, len(versions.Data))
	for i, v := range versions.Data {
		rows[i] = []string{v.ID, v.SerialNumber, date(v.NotBefore), date(v.NotAfter), key(v), first(text(v.IssuerID), text(v.IssuerName))}
	}
	if err := s.table([]string{"VERSION", "SERIAL", "FROM", "TO", "KEY", "ISSUED BY"}, rows); err != nil {
		return err
	}
	return s.printFindings(versions.Data[0])
}

// printFindings shows what linters have to say against a version, if anything.
func (s *session) printFindings(v client.CertificateVersion) error {
	if v.LintFindings == nil {
		return nil
	}
	if _, err := fmt.Fprintf(s.Out, "\nLint findings about %s:\n", printable(v.ID)); err != nil {
		return err
	}
	rows := make([][]string, len(*v.LintFindings))
	for i, f := range *v.LintFindings {
		rows[i] = []string{string(f.Level), f.Lint, cmp.Or(text(f.Detail), f.Text)}
	}
	return s.table([]string{"LEVEL", "LINT", "SAYS"}, rows)
}

func key(v client.CertificateVersion) string {
	if v.KeyAlgorithm == nil || v.KeySize == nil {
		return ""
	}
	kind := *v.KeyAlgorithm + " " + strconv.Itoa(*v.KeySize)
	if v.KeyState != nil {
		kind += ", " + string(*v.KeyState)
	}
	return kind
}

func createCert(ctx context.Context, s *session, args []string) error {
	var sans, targets []string
	s.flags.Func("san", "a further DNS name or IP address; may be given again", func(v string) error { sans = append(sans, v); return nil })
	s.flags.Func("target", "a target to install it on; may be given again", func(v string) error { targets = append(targets, v); return nil })
	csrFile := s.flags.String("csr", "", csrHelp)
	id := s.flags.String("id", "", "your own id for it")
	issuer := s.flags.String("issuer-id", "", "the issuer that signs it (default iss-local)")
	profile := s.flags.String("profile-id", "", "the profile that it keeps to")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	body := client.CertificateCreate{
		CommonName: rest[0], ID: optional[string](*id), IssuerID: optional[string](*issuer), CertificateProfileID: optional[string](*profile),
	}
	if len(sans) > 0 {
		body.Sans = &sans
	}
	if len(targets) > 0 {
		body.TargetIds = &targets
	}
	if body.CsrPem, err = signingRequest(*csrFile); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var cert client.Certificate
	res, err := c.CreateCertificate(ctx, body)
	raw, err := decode(res, err, &cert)
	if err != nil {
		return err
	}
	if cert.Warning != nil {
		fmt.Fprintln(s.Err, harmless(*cert.Warning))
	}
	if s.json {
		return s.printJSON(raw)
	}
	_, err = fmt.Fprintf(s.Out, "%s is %s; certctl-cli get-cert %s shows how it goes on\n", harmless(cert.ID), harmless(string(cert.Status)), harmless(cert.ID))
	return err
}

const csrHelp = "a signing request in PEM, if the key is yours"

// signingRequest reads a file that is named, nil if none is.
func signingRequest(file string) (*string, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the signing request: %w", err)
	case len(pem) == 0:
		// Without a request somebody else would be asked to make the key.
		return nil, fmt.Errorf("%s is empty, and no signing request", file)
	}
	return optional[string](string(pem)), nil
}

func renewCert(ctx context.Context, s *session, args []string) error {
	csrFile := s.flags.String("csr", "", csrHelp)
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	csr, err := signingRequest(*csrFile)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var triggered client.RenewalTriggered
	res, err := c.RenewCertificate(ctx, rest[0], client.RenewCertificateJSONRequestBody{CsrPem: csr})
	raw, err := decode(res, err, &triggered)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(raw)
	}
	_, err = fmt.Fprintf(s.Out, "renewal of %s is under way: job %s\n", rest[0], harmless(triggered.JobID))
	return err
}
