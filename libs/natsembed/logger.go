package natsembed

import (
	"context"
	"fmt"
	"log/slog"
)

// Logger lets a NATS server write to slog. The server's notices are debug records here, since they tell of every start
// and connection; its warnings and errors keep their level. A fatal error of the server is an error record and does not
// end the process: whoever started the server sees that it is not ready.
type Logger struct {
	log *slog.Logger
}

// NewLogger returns a logger whose records bear the server's name.
func NewLogger(log *slog.Logger, server string) *Logger {
	return &Logger{log: log.With("nats_server", server)}
}

// Noticef records at level debug.
func (l *Logger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf records at level warn.
func (l *Logger) Warnf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Errorf records at level error.
func (l *Logger) Errorf(format string, v ...any) { l.write(slog.LevelError, format, v) }

// Fatalf records at level error.
func (l *Logger) Fatalf(format string, v ...any) { l.write(slog.LevelError, format, v) }

// Debugf records nothing: the server's debug records are about its protocol.
func (l *Logger) Debugf(string, ...any) {}

// Tracef records nothing.
func (l *Logger) Tracef(string, ...any) {}

func (l *Logger) write(level slog.Level, format string, v []any) {
	ctx := context.Background() //nolint:forbidigo // a server logs from goroutines of its own, which have no context
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, v...)) //nolint:sloglint // the words are the server's
	}
}
