package admin

import (
	"bytes"
	"errors"
	"flag"
	"log/slog"
	"strings"
	"testing"
)

func TestAdmin_SaysWhatIsWrongWithACommandLine(t *testing.T) {
	for line, says := range map[string]string{
		"sample-data":      `no tool "sample-data"; certctl admin help lists the tools`,
		"nonsense":         `no tool "nonsense"`,
		"create-key alone": "usage: certctl admin create-key NAME ROLES",
	} {
		err := Run(t.Context(), strings.Fields(line), &bytes.Buffer{}, slog.New(slog.DiscardHandler))
		if err == nil || errors.Is(err, flag.ErrHelp) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestAdmin_ExplainsWhatItIsAskedAbout(t *testing.T) {
	for line, says := range map[string]string{
		"":                   "Tools:",
		"--help":             "Tools:",
		"sample-data --help": "Tools:",
		"replay --help":      "certctl admin replay SINCE: publish again",
	} {
		var out bytes.Buffer
		err := Run(t.Context(), strings.Fields(line), &out, slog.New(slog.DiscardHandler))
		if !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), says) {
			t.Errorf("%q: %v, prints %q", line, err, out.String())
		}
	}
}
