package entry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/event"
)

func details(t *testing.T, body string) map[string]json.RawMessage {
	t.Helper()
	var out map[string]json.RawMessage
	if err := json.Unmarshal([]byte(one(t, message("certctl.issuersettings.changed.v1", "issuersettings/iss-1", body)).Details), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFromMessage_ShowsWhatWasChangedFromWhatToWhat(t *testing.T) {
	body, err := json.Marshal(event.IssuerChanged{Record: event.Record{
		ID: "iss-1", Name: "Step", Verb: event.Updated, Changes: event.Changes{
			"enabled":        {Before: true, After: false},
			"name":           {Before: "Old", After: "Step"},
			"config.retries": {Before: nil, After: 9007199254740993},
			"config.secret":  {Before: "(secret)", After: "(secret)"},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"config.retries":{"before":null,"after":9007199254740993},"config.secret":{"before":"(secret)","after":"(secret)"},` +
		`"enabled":{"before":true,"after":false},"name":{"before":"Old","after":"Step"}}`
	if got := string(details(t, string(body))["changes"]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestFromMessage_NeverRecordsASecret is about owners that forget to leave one out: what
// is on record stays there for ever.
func TestFromMessage_NeverRecordsASecret(t *testing.T) {
	const leak = "hunter2"
	for name, body := range map[string]string{
		"a field":               `{"password":"hunter2"}`,
		"with a prefix":         `{"provisioner_password":"hunter2"}`,
		"in camel case":         `{"apiKey":"hunter2","clientSecret":"hunter2"}`,
		"in capitals":           `{"TOKEN":"hunter2"}`,
		"within an object":      `{"config":{"auth":{"api_token":"hunter2"}}}`,
		"within a list":         `{"targets":[{"name":"x","tls_key":"hunter2"}]}`,
		"a list of them":        `{"shared_secret":["hunter2",{"x":"hunter2"}]}`,
		"a change":              `{"changes":{"password":{"before":"hunter2","after":"hunter2"}}}`,
		"a change of a path":    `{"changes":{"config.eab.hmac_key":{"before":null,"after":"hunter2"}}}`,
		"an object of a change": `{"changes":{"config":{"before":{"passphrase":"hunter2"},"after":{"credentials":{"user":"hunter2"}}}}}`,
		"a key elsewhere":       `{"note":"-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----"}`,
		"one among others":      `{"notes":["a","-----BEGIN PRIVATE KEY-----hunter2"]}`,
		"one with escapes":      `{"note":"\u002d----BEGIN \u0050RIVATE KEY-----hunter2"}`,
		"a PEM within":          `{"config":{"root_pem":"hunter2","pem_chain":"hunter2"}}`,
		"an unknown event":      `{"authorization":"Bearer hunter2"}`,
	} {
		if got := one(t, message("certctl.something.happened.v1", "something/x", body)).Details; strings.Contains(got, leak) {
			t.Errorf("%s: %s", name, got)
		}
	}
	got := details(t, `{"secret":42,"password":"","token":null,"key":true,"changes":{"key":{"before":null,"after":"x"}},"public_key":"MCow","publicKey":"MCow"}`)
	for field, want := range map[string]string{
		"secret": `"(secret)"`, "password": `""`, "token": `null`, "key": `true`, "public_key": `"MCow"`, "publicKey": `"MCow"`,
		"changes": `{"key":{"after":"(secret)","before":null}}`,
	} {
		if string(got[field]) != want {
			t.Errorf("%s is %s, want %s", field, got[field], want)
		}
	}
}

// TestFromMessage_TakesNothingThatIsKnownForASecret runs over the contract's frozen
// samples: a field that is named unluckily would never be seen by an auditor.
func TestFromMessage_TakesNothingThatIsKnownForASecret(t *testing.T) {
	for _, e := range event.All() {
		sample, err := os.ReadFile(filepath.Join("../../../../contracts/event/testdata/v1", event.Type(e)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if event.Type(e) == event.Type(event.APICalled{}) || strings.Contains(string(sample), hidden) {
			continue
		}
		aggregate, _, _ := e.About()
		if got := one(t, message(event.Type(e), aggregate+"/x", string(sample))).Details; strings.Contains(got, hidden) {
			t.Errorf("%s: %s", event.Type(e), got)
		}
	}
}

// TestFromMessage_KeepsEveryByteOfWhatHoldsNoSecret: details are hashed as they are.
func TestFromMessage_KeepsEveryByteOfWhatHoldsNoSecret(t *testing.T) {
	const value = `{"z":1,"a":[1.0,2e3,9007199254740993],"x":{"y":"<&>"}}`
	if got := string(details(t, `{"odd":`+value+`}`)["odd"]); got != strings.NewReplacer("<", `\u003c`, "&", `\u0026`, ">", `\u003e`).Replace(value) {
		t.Errorf("got %s", got)
	}
}
