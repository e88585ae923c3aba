package admin

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/certctl/certctl/services/audit"
	"github.com/certctl/certctl/services/certctl/internal/platform"
)

// verifyAudit reads the chain of a running installation.
func verifyAudit(ctx context.Context, t *toolbox, _ []string) error {
	in, err := platform.Attach(t.cfg.Platform, t.log)
	if err != nil {
		return err
	}
	pool, err := in.Database.Pool(ctx, "audit")
	if err != nil {
		return err
	}
	defer pool.Close()
	events, head, err := audit.Verify(ctx, pool)
	if err != nil {
		return fmt.Errorf("the audit chain is broken after %d good events: %w", events, err)
	}
	fmt.Fprintf(t.out, "The audit chain is intact: %d events, the last with the hash %s.\n", events, hex.EncodeToString(head[:]))
	return nil
}
