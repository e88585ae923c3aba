package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

var full = issuance.Certificate{
	ID: "mc-1", Name: `a "name" with \ and <ä>` + "\n", CommonName: "www.example.com", SANs: []string{"www.example.com", "x"},
	Environment: "prod", OwnerID: "o-1", TeamID: "t-1", IssuerID: "iss-1", RenewalPolicyID: "rp-1", TargetIDs: []string{"tgt-1"},
	Tags: map[string]string{"z": "1", "a": "\x01\u2028"}, Status: issuance.Failed, StatusReason: "because", VersionID: "cv-1",
	SerialNumber: "1f", Fingerprint: "ab", ExpiresAt: time.Date(2027, 1, 2, 3, 4, 5, 678000, time.FixedZone("", 3600)),
	LastRenewalAt: time.Unix(5, 0), LastDeploymentAt: time.Unix(6, 0), CreatedAt: time.Unix(7, 1000), UpdatedAt: time.Unix(8, 0),
}

func decode(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return out
}

// What is written by hand is what the general encoder writes of the contract's model.
func TestEncode_WritesWhatTheContractSays(t *testing.T) {
	for _, c := range []issuance.Certificate{full, {}} {
		want, err := json.Marshal(certificate(&c))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(decode(t, want), decode(t, certificateFields.append(nil, &c))); d != "" {
			t.Error(d)
		}
	}
}

// A field that is added to the contract has to be added to encode.go.
func TestEncode_KnowsEveryFieldOfTheContract(t *testing.T) {
	model := reflect.TypeFor[issuerapi.Certificate]()
	for f := range model.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		// These are in the answer to a creation only, or in that about a single certificate.
		if name != "job_id" && name != "version" && name != "warning" && name != "renewal_advice" && !certificateFields.has(name) {
			t.Errorf("%s is not written in lists", name)
		}
	}
}

func TestEncode_WritesChosenFieldsInAlphabeticalOrder(t *testing.T) {
	for list, want := range map[string]string{
		"status,id, common_name,nosuch": `{"common_name":"www.example.com","id":"mc-1","status":"Failed"}`,
		"nosuch":                        `{}`,
		"target_ids":                    `{"target_ids":["tgt-1"]}`,
	} {
		if got := string(chosenFields(list).append(nil, &full)); got != want {
			t.Errorf("%s: %s, want %s", list, got, want)
		}
	}
	empty := issuance.Certificate{ID: "mc-1"}
	if got := string(chosenFields("last_renewal_at,id").append(nil, &empty)); got != `{"id":"mc-1"}` {
		t.Errorf("left out: %s", got)
	}
}

func BenchmarkEncode(b *testing.B) {
	buffer := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buffer = certificateFields.append(buffer[:0], &full)
	}
}
