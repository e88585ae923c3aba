package process

import (
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

// meta is what a shell would act on. None of it is ever meant literally in the
// commands that operators give, so a command that holds it expects a shell.
const meta = "|&;<>()$`*?[]{}~#!\n\r\\"

// Parse splits a command into its arguments. Blanks separate; a part in single quotes
// is taken as it is, in double quotes too, with \" and \\ for the characters
// themselves. There is no shell: what only a shell understands is refused, with a
// fault.Invalid that says which character it was.
func Parse(line string) ([]string, error) {
	var argv []string
	var current strings.Builder
	started := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == ' ' || c == '\t':
			if started {
				argv = append(argv, current.String())
				current.Reset()
				started = false
			}
		case c == '\'' || c == '"':
			length, err := quoted(&current, line[i:])
			if err != nil {
				return nil, err
			}
			i += length - 1
			started = true
		case strings.IndexByte(meta, c) >= 0:
			return nil, fault.New(fault.Invalid,
				"the command %q holds %q: commands run without a shell, so write one command and its arguments", line, string(c))
		default:
			current.WriteByte(c)
			started = true
		}
	}
	if started {
		argv = append(argv, current.String())
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, fault.New(fault.Invalid, "the command is empty")
	}
	return argv, nil
}

// quoted reads a quoted part, of which s begins with the quote, and returns its length.
func quoted(into *strings.Builder, s string) (int, error) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return i + 1, nil
		case c == '\n' || c == '\r' || c == 0:
			return 0, fault.New(fault.Invalid, "a command is one line")
		case quote == '"' && (c == '$' || c == '`'):
			return 0, fault.New(fault.Invalid, "the command holds %q in double quotes, which only a shell would replace", string(c))
		case quote == '"' && c == '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return 0, fault.New(fault.Invalid, `only \" and \\ may be escaped in a command`)
			}
			into.WriteByte(s[i])
		default:
			into.WriteByte(c)
		}
	}
	return 0, fault.New(fault.Invalid, "a quote in the command %q is not closed", s)
}
