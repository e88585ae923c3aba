// Command configdoc writes docs/operations/config.gen.md from the structs that hold the
// settings, so that the page cannot say anything else than the code.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/certctl/internal/up"
	"github.com/certctl/certctl/services/leaf"
)

const page = "../../docs/operations/config.gen.md"

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}

func write() error {
	certctl, err := up.Describe()
	if err != nil {
		return err
	}
	apart, err := service.Variables("issuer", &struct{}{})
	if err != nil {
		return err
	}
	site, err := config.Describe("CERTCTL_LEAF", &leaf.Config{})
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("<!-- Code generated from the configuration structs; DO NOT EDIT. -->\n\n# Settings\n\n" +
		"Everything is set by environment variables. A variable that is set but empty counts as not set. A secret may\n" +
		"also be put in a file that `<NAME>_FILE` names. `certctl-agent --help` lists the agent's settings.\n")
	table(&b, "`certctl up`, and the services in it", certctl)
	table(&b, "A service that runs apart, here the issuer; besides its own of the above", apart)
	table(&b, "`certctl-leaf`", site)
	return os.WriteFile(page, []byte(b.String()), 0o644)
}

func table(b *strings.Builder, title string, vars []config.Var) {
	fmt.Fprintf(b, "\n## %s\n\n| variable | default | |\n|---|---|---|\n", title)
	for _, v := range vars {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", v.Name, code(v.Default), description(v))
	}
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func description(v config.Var) string {
	text := strings.ReplaceAll(v.Description, "|", "\\|")
	if v.Secret {
		text += " Secret."
	}
	return text
}
