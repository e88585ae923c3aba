package config_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/config"
)

type settings struct {
	ServerPort  int           `split_words:"true" default:"8080" desc:"Port of the HTTP listener."`
	SweepEvery  time.Duration `split_words:"true" default:"1h" desc:"Interval of the sweep."`
	Origins     []string      `split_words:"true" desc:"Allowed origins."`
	AuthSecret  string        `split_words:"true" secret:"true" desc:"Shared secret."`
	DatabaseURL url.URL       `split_words:"true"`
	RateLimit   rateLimit     `split_words:"true"`
	MaxBatch    uint          `split_words:"true"`
	NotRead     string        `ignored:"true"`
}

type rateLimit struct {
	Enabled bool    `split_words:"true" default:"true"`
	RPS     float64 `split_words:"true" default:"50"`
}

func TestLoad_GivesDefaultsWhenNothingIsSet(t *testing.T) {
	var got settings
	if err := config.Load("CCTEST", &got); err != nil {
		t.Fatal(err)
	}
	want := settings{ServerPort: 8080, SweepEvery: time.Hour, RateLimit: rateLimit{Enabled: true, RPS: 50}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoad_ReadsEveryKindOfField(t *testing.T) {
	t.Setenv("CCTEST_SERVER_PORT", "9000")
	t.Setenv("CCTEST_SWEEP_EVERY", "90s")
	t.Setenv("CCTEST_ORIGINS", "https://a.example, https://b.example")
	t.Setenv("CCTEST_AUTH_SECRET", "s3cret")
	t.Setenv("CCTEST_DATABASE_URL", "postgres://db.example/certctl")
	t.Setenv("CCTEST_RATE_LIMIT_ENABLED", "false")
	t.Setenv("CCTEST_RATE_LIMIT_RPS", "2.5")
	t.Setenv("CCTEST_MAX_BATCH", "7")
	var got settings
	if err := config.Load("CCTEST", &got); err != nil {
		t.Fatal(err)
	}
	want := settings{
		ServerPort: 9000, SweepEvery: 90 * time.Second, Origins: []string{"https://a.example", "https://b.example"},
		AuthSecret: "s3cret", DatabaseURL: url.URL{Scheme: "postgres", Host: "db.example", Path: "/certctl"},
		RateLimit: rateLimit{RPS: 2.5}, MaxBatch: 7,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoad_TakesAnEmptyVariableForUnset(t *testing.T) {
	t.Setenv("CCTEST_SERVER_PORT", "")
	t.Setenv("CCTEST_RATE_LIMIT_ENABLED", "")
	t.Setenv("CCTEST_AUTH_SECRET_FILE", "")
	var got settings
	if err := config.Load("CCTEST", &got); err != nil {
		t.Fatal(err)
	}
	if got.ServerPort != 8080 || !got.RateLimit.Enabled {
		t.Errorf("got %+v, want the defaults", got)
	}
}

func TestLoad_IgnoresNamesWithoutThePrefix(t *testing.T) {
	t.Setenv("SERVER_PORT", "1")
	var got settings
	if err := config.Load("CCTEST", &got); err != nil || got.ServerPort != 8080 {
		t.Errorf("port = %d, err = %v", got.ServerPort, err)
	}
}

func TestLoad_ReadsASecretFromItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CCTEST_AUTH_SECRET_FILE", path)
	var got settings
	if err := config.Load("CCTEST", &got); err != nil || got.AuthSecret != "from file" {
		t.Errorf("secret = %q, err = %v", got.AuthSecret, err)
	}
	if _, leaked := os.LookupEnv("CCTEST_AUTH_SECRET"); leaked {
		t.Error("the secret was put into the environment, which children inherit")
	}
	t.Setenv("CCTEST_AUTH_SECRET", "also here")
	if err := config.Load("CCTEST", &got); err == nil || !strings.Contains(err.Error(), "not both") {
		t.Errorf("err = %v, want a refusal of both", err)
	}
}

func TestLoad_RefusesASecretFileOfNoUse(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := map[string]string{
		"missing":   filepath.Join(dir, "none"),
		"empty":     write("empty", "\n"),
		"large":     write("large", strings.Repeat("x", 65<<10)),
		"directory": dir,
	}
	for name, path := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CCTEST_AUTH_SECRET_FILE", path)
			err := config.Load("CCTEST", &settings{})
			if err == nil || !strings.Contains(err.Error(), "CCTEST_AUTH_SECRET_FILE") {
				t.Errorf("err = %v, want one that names the variable", err)
			}
		})
	}
}

func TestLoad_NeverRepeatsAValue(t *testing.T) {
	tests := map[string]string{
		"CCTEST_SERVER_PORT":        "a whole number",
		"CCTEST_SWEEP_EVERY":        "30s, 5m or 24h",
		"CCTEST_RATE_LIMIT_ENABLED": "true or false",
		"CCTEST_RATE_LIMIT_RPS":     "a number",
		"CCTEST_MAX_BATCH":          "zero or more",
		"CCTEST_DATABASE_URL":       "a valid url.URL",
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "://hunter2")
			err := config.Load("CCTEST", &settings{})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), want) {
				t.Errorf("err = %q, want the name and %q", err, want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("err = %q repeats the value", err)
			}
		})
	}
}

type validated struct {
	Port int `split_words:"true" default:"8080"`
}

var errPort = errors.New("CCTEST_PORT must be above 1024")

func (v *validated) Validate() error {
	if v.Port <= 1024 {
		return errPort
	}
	return nil
}

func TestLoad_AsksTheStructForItsVerdict(t *testing.T) {
	if err := config.Load("CCTEST", &validated{}); err != nil {
		t.Errorf("defaults: %v", err)
	}
	t.Setenv("CCTEST_PORT", "80")
	if err := config.Load("CCTEST", &validated{}); !errors.Is(err, errPort) {
		t.Errorf("err = %v, want %v", err, errPort)
	}
}

func TestLoad_RefusesTagsThatBringTrapsBack(t *testing.T) {
	tests := map[string]any{
		"no split_words":   &struct{ MaxConns int }{},
		"none on a struct": &struct{ RateLimit rateLimit }{},
		"envconfig tag": &struct {
			Port int `envconfig:"PORT" split_words:"true"`
		}{},
		"secret of no string": &struct {
			Key []byte `secret:"true" split_words:"true"`
		}{},
		"required secret": &struct {
			Key string `secret:"true" required:"true" split_words:"true"`
		}{},
		"secret named file": &struct {
			KeyFile string `secret:"true" split_words:"true"`
		}{},
		"no pointer": settings{},
	}
	for name, into := range tests {
		t.Run(name, func(t *testing.T) {
			if err := config.Load("CCTEST", into); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestDescribe_ListsWhatLoadReads(t *testing.T) {
	got, err := config.Describe("CCTEST", &settings{})
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Var{
		{Name: "CCTEST_SERVER_PORT", Type: "int", Default: "8080", Description: "Port of the HTTP listener."},
		{Name: "CCTEST_SWEEP_EVERY", Type: "duration", Default: "1h", Description: "Interval of the sweep."},
		{Name: "CCTEST_ORIGINS", Type: "list", Description: "Allowed origins."},
		{Name: "CCTEST_AUTH_SECRET", Type: "string", Description: "Shared secret.", Secret: true},
		{Name: "CCTEST_DATABASE_URL", Type: "text"},
		{Name: "CCTEST_RATE_LIMIT_ENABLED", Type: "bool", Default: "true"},
		{Name: "CCTEST_RATE_LIMIT_RPS", Type: "float64", Default: "50"},
		{Name: "CCTEST_MAX_BATCH", Type: "uint"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnknown_NamesTheNearest(t *testing.T) {
	for _, name := range []string{
		"CCTEST_SERVER_PORT", "CCTEST_AUTH_SECRET_FILE", // known
		"CCTEST_SERVRE_PORT", "CCTEST_ZEBRA", // not known
		"CCTEST_SERVICE_HOST", "CCTEST_SERVICE_PORT_HTTP", "CCTEST_PORT_8080_TCP_ADDR", // Kubernetes
	} {
		t.Setenv(name, "x")
	}
	t.Setenv("CCTEST_GATEWAY_PORT", "tcp://10.0.0.1:8080") // Kubernetes too
	known, err := config.Describe("CCTEST", &settings{})
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Suggestion{
		{Name: "CCTEST_SERVRE_PORT", Nearest: "CCTEST_SERVER_PORT"},
		{Name: "CCTEST_ZEBRA"},
	}
	if diff := cmp.Diff(want, config.Unknown("CCTEST", known)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
