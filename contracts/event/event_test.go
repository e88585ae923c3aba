package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write samples of events that have none yet")

const samples = "testdata/v1"

// TestSamples_DecodeForEver holds what was once published against what is read
// today: each field of a frozen sample must survive.
func TestSamples_DecodeForEver(t *testing.T) {
	for _, e := range All() {
		t.Run(Type(e), func(t *testing.T) {
			file := filepath.Join(samples, Type(e)+".json")
			if _, err := os.Stat(file); *update && errors.Is(err, os.ErrNotExist) {
				writeSample(t, file, e)
			}
			frozen, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; a new event needs a sample: go test ./event -update", err)
			}
			got, err := Decode(Type(e), frozen)
			if err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var want, have map[string]any
			if err := errors.Join(json.Unmarshal(frozen, &want), json.Unmarshal(again, &have)); err != nil {
				t.Fatal(err)
			}
			for field, value := range want {
				if d := cmp.Diff(value, have[field]); d != "" {
					t.Errorf("%s is read differently than it was written:\n%s", field, d)
				}
			}
		})
	}
}

func TestSamples_FitTheirSchemas(t *testing.T) {
	for _, e := range All() {
		t.Run(Type(e), func(t *testing.T) {
			schema, err := jsonschema.NewCompiler().Compile(filepath.Join("../schema", Type(e)+".json"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(samples, Type(e)+".json"))
			if err != nil {
				t.Fatal(err)
			}
			sample, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(sample); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSubject_IsThatOfTheTypeWhateverTheEventIsAbout(t *testing.T) {
	for _, e := range All() {
		filled := fill(reflect.TypeOf(e)).Interface().(Event)
		aggregate, _, name := filled.About()
		s := Subject(filled)
		if s != "certctl.evt."+aggregate+".v1."+name || s != Subject(e) {
			t.Errorf("%s has the subject %s", Type(e), s)
		}
	}
}

func TestDecode_TellsAnUnknownTypeFromABadBody(t *testing.T) {
	if _, err := Decode("certctl.certificate.transmuted.v9", []byte(`{}`)); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	if _, err := Decode(Type(CertificateIssued{}), []byte(`[]`)); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("got %v for a body that is no object", err)
	}
}

func TestDecode_IgnoresFieldsOfANewerPublisher(t *testing.T) {
	e, err := Decode(Type(CertificateArchived{}), []byte(`{"certificate_id":"mc-1","since":"tomorrow"}`))
	if err != nil || e.(CertificateArchived).CertificateID != "mc-1" {
		t.Errorf("got %+v, %v", e, err)
	}
}

func writeSample(t *testing.T, file string, e Event) {
	t.Helper()
	b, err := json.MarshalIndent(fill(reflect.TypeOf(e)).Interface(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fill makes a value with something in every field.
func fill(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			v.Field(i).Set(fill(t.Field(i).Type))
			if f := t.Field(i); f.Type.Kind() == reflect.String {
				v.Field(i).SetString(strings.ReplaceAll(strings.TrimSuffix(strings.Split(f.Tag.Get("json"), ",")[0], "_id"), "_", "-") + "-1")
			}
		}
	case t.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, fill(t.Elem())))
	case t.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(fill(t.Key()), fill(t.Elem()))
	case t.Kind() == reflect.Interface:
		v.Set(reflect.ValueOf("value"))
	case t.Kind() == reflect.String:
		v.SetString("www.example.com")
	case t.Kind() == reflect.Bool:
		v.SetBool(true)
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		v.SetInt(256)
	}
	return v
}
