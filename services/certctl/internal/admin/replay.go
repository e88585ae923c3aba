package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/services/certctl/internal/platform"
)

// replay fills the streams of events and records again, after a loss of the bus's disk.
func replay(ctx context.Context, t *toolbox, args []string) error {
	since, err := moment(args[0])
	if err != nil {
		return err
	}
	in, err := platform.Attach(t.cfg.Platform, t.log)
	if err != nil {
		return err
	}
	n, err := in.Database.Replay(ctx, []string{subject.StreamEvents, subject.StreamAudit}, since)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%d messages since %s are published again; consumers pass over what they have handled.\n", n, since.Format(time.RFC3339))
	return nil
}

// moment is a time, or how long ago.
func moment(text string) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago.Abs()).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-11-23T12:00:00Z nor how long ago, such as 24h", text)
	}
	return at, nil
}
