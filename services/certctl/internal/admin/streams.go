package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/certctl/internal/platform"
)

func planStreams(ctx context.Context, t *toolbox, _ []string) error {
	return t.eachAccount(ctx, func(m bus.Manifest, conn *bus.Conn) ([]bus.Change, error) { return m.Plan(ctx, conn.JS) })
}

func applyStreams(ctx context.Context, t *toolbox, _ []string) error {
	return t.eachAccount(ctx, func(m bus.Manifest, conn *bus.Conn) ([]bus.Change, error) { return m.Apply(ctx, conn.JS) })
}

// eachAccount prints what do would change or has changed in each account with streams.
func (t *toolbox) eachAccount(ctx context.Context, do func(bus.Manifest, *bus.Conn) ([]bus.Change, error)) error {
	in, err := platform.Attach(t.cfg.Platform, t.log)
	if err != nil {
		return err
	}
	for _, account := range []natsauth.Account{natsauth.CORE, natsauth.EDGE} {
		conn, err := in.Connect(ctx, account, platform.UserManifest)
		if err != nil {
			return err
		}
		changes, err := do(platform.Manifest(account, t.cfg.Platform.NatsMaxBytes), conn)
		if err := errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
			return err
		}
		if len(changes) == 0 {
			fmt.Fprintf(t.out, "%s: as it should be\n", account)
		}
		for _, c := range changes {
			fmt.Fprintf(t.out, "%s: %s %s\n", account, c.Action, c.Object)
			for _, line := range c.Lines {
				fmt.Fprintln(t.out, "   ", line)
			}
		}
	}
	return nil
}
