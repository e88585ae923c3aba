package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
)

// Fetch asks a service, as [Ask] does, and decodes its answer, for compositions of
// several owners' answers. A refusal is the fault that the service made it of.
func Fetch(owners http.RoundTripper, service, operation string, r *http.Request, into any) error {
	res, err := Ask(owners, service, operation, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "the %s service broke off its answer", service)
	}
	if res.StatusCode != http.StatusOK {
		return refusal(service, operation, res.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read what %s answered to %s: %w", service, operation, err)
	}
	return nil
}

// refusal turns an owner's problem document back into the fault that it was made of.
func refusal(service, operation string, status int, body []byte) error {
	var p httpx.Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return fmt.Errorf("%s answered %s with status %d", service, operation, status)
	}
	f := fault.New(p.Code, "%s", p.Message)
	f.Fields = p.Errors
	return f
}
