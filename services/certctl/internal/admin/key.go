package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/certctl/certctl/services/certctl/internal/platform"
	"github.com/certctl/certctl/services/gateway"
)

// createKey makes an API key in the database of a running installation: the way in for
// whoever has lost all keys.
func createKey(ctx context.Context, t *toolbox, args []string) error {
	name, roles := args[0], strings.Split(args[1], ",")
	in, err := platform.Attach(t.cfg.Platform, t.log)
	if err != nil {
		return err
	}
	pool, err := in.Database.Pool(ctx, "gateway")
	if err != nil {
		return err
	}
	defer pool.Close()
	id, key, err := gateway.BreakGlass(ctx, pool, name, roles)
	if err != nil {
		return fmt.Errorf("make an API key: %w", err)
	}
	fmt.Fprintf(t.out, "%s\n\n%s is the key %s, without limits and without expiry. It cannot be shown again.\n", key, id, name)
	return nil
}
