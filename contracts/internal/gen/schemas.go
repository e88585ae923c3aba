package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/certctl/certctl/contracts/event"
)

const schemaDir = "schema"

// schemas writes a JSON Schema an event, named by its CloudEvents type. A reader must
// ignore what it does not know, so additional properties are allowed.
func schemas() error {
	old, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	for _, e := range event.All() {
		s, err := jsonschema.ForType(reflect.TypeOf(e), &jsonschema.ForOptions{})
		if err != nil {
			return fmt.Errorf("schema of %s: %w", event.Type(e), err)
		}
		s.Schema = "https://json-schema.org/draft/2020-12/schema"
		s.Title = event.Type(e)
		s.AdditionalProperties = nil
		b, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(schemaDir, event.Type(e)+".json"), append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}
