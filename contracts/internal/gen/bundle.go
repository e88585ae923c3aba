package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

const (
	sources = "openapi"
	bundled = "openapi/openapi.gen.yaml"
	header  = "# Code generated from the files beside it; DO NOT EDIT.\n"
)

// bundle merges the resources' files into the root's paths and components. The files
// refer to each other's schemas as if they were one document already, so merging is
// all there is to do.
func bundle() error {
	root, err := parse(filepath.Join(sources, "root.yaml"))
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(sources, "*.yaml"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, f := range files {
		if f == bundled || filepath.Base(f) == "root.yaml" {
			continue
		}
		part, err := parse(f)
		if err != nil {
			return err
		}
		if err := merge(child(root, "paths"), child(part, "paths")); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		components := child(part, "components")
		for i := 0; components != nil && i < len(components.Content); i += 2 {
			into := child(child(root, "components"), components.Content[i].Value)
			if into == nil {
				return fmt.Errorf("%s: root.yaml has no components.%s", f, components.Content[i].Value)
			}
			if err := merge(into, components.Content[i+1]); err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
		}
	}
	child(root, "paths").Style = 0
	var out bytes.Buffer
	out.WriteString(header)
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return err
	}
	if err := validate(out.Bytes()); err != nil {
		return err
	}
	return os.WriteFile(bundled, out.Bytes(), 0o644)
}

func parse(file string) (*yaml.Node, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(doc.Content) != 1 {
		return nil, fmt.Errorf("%s: not one document", file)
	}
	doc.Content[0].HeadComment = ""
	return doc.Content[0], nil
}

// child is the value of a key of a mapping, nil if it has none.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// merge adds the entries of one mapping to another and refuses a key twice.
func merge(into, from *yaml.Node) error {
	if from == nil {
		return nil
	}
	if into == nil {
		return errors.New("nothing to merge into")
	}
	for i := 0; i+1 < len(from.Content); i += 2 {
		if child(into, from.Content[i].Value) != nil {
			return fmt.Errorf("%s is there already", from.Content[i].Value)
		}
		into.Content = append(into.Content, from.Content[i], from.Content[i+1])
	}
	return nil
}

func validate(document []byte) error {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(document)
	if err != nil {
		return err
	}
	return doc.Validate(loader.Context)
}
