package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/certctl/internal/platform"
)

// writeCredentials writes what one service needs to run as a process of its own: the
// credentials of its own user and role, and an environment that names them. The folder
// is as secret as the service is trusted.
func writeCredentials(_ context.Context, t *toolbox, args []string) error {
	service, dir := args[0], args[1]
	in, err := platform.Attach(t.cfg.Platform, t.log)
	if err != nil {
		return err
	}
	if err := in.Reachable(); err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	w := &folder{dir: dir}
	w.user(in, natsauth.CORE, service, "nats.creds")
	w.set("CERTCTL_NATS_URL", in.NatsURL)
	w.set("CERTCTL_NATS_CREDS_FILE", w.path("nats.creds"))
	url, err := in.Database.URL(service)
	w.errs = append(w.errs, err)
	w.file("database.url", []byte(url+"\n"))
	w.set("CERTCTL_DATABASE_URL_FILE", w.path("database.url"))
	w.set("CERTCTL_SEALING_KEY_FILE", filepath.Join(t.cfg.Platform.DataDir, "sealing.key"))
	if service == "deployment" {
		w.edge(in)
		key, err := t.cfg.LocalLeafKey()
		w.errs = append(w.errs, err)
		w.set("CERTCTL_DEPLOYMENT_LOCAL_LEAF_KEY", key)
	}
	w.file("env", []byte(strings.Join(w.env, "\n")+"\n"))
	if err := errors.Join(w.errs...); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Wrote %s. Run certctl up --without %s, and: env $(cat %s) %s\n", dir, service, w.path("env"), service)
	return nil
}

// folder gathers files and what went wrong with them.
type folder struct {
	dir  string
	env  []string
	errs []error
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *folder) set(name, value string) { f.env = append(f.env, name+"="+value) }

func (f *folder) file(name string, content []byte) {
	f.errs = append(f.errs, os.WriteFile(f.path(name), content, 0o600))
}

func (f *folder) user(in *platform.Attached, account natsauth.Account, name, file string) {
	c, err := platform.Credentials(in.Authority, account, name)
	if err != nil {
		f.errs = append(f.errs, err)
		return
	}
	text, err := c.File()
	f.errs = append(f.errs, err)
	f.file(file, text)
}

// edge adds what the deployment service needs in account EDGE.
func (f *folder) edge(in *platform.Attached) {
	f.user(in, natsauth.EDGE, "deployment", "edge.creds")
	f.set("CERTCTL_DEPLOYMENT_EDGE_CREDS_FILE", f.path("edge.creds"))
	keys, err := in.Authority.EdgeKeys()
	f.errs = append(f.errs, err)
	text, err := json.Marshal(keys)
	f.errs = append(f.errs, err)
	f.file("edge-signing-keys.json", text)
	f.set("CERTCTL_DEPLOYMENT_EDGE_SIGNING_KEYS_FILE", f.path("edge-signing-keys.json"))
	account, err := in.Authority.AccountJWT(natsauth.EDGE)
	f.errs = append(f.errs, err)
	f.file("edge-account.jwt", []byte(account+"\n"))
	f.set("CERTCTL_DEPLOYMENT_EDGE_ACCOUNT_JWT_FILE", f.path("edge-account.jwt"))
}
