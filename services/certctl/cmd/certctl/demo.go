package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/services/certctl/internal/demo"
	"github.com/certctl/certctl/services/certctl/internal/up"
)

// runDemo plays the story against an installation of its own, in a new folder, which is
// removed afterwards.
func runDemo(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("certctl demo", flag.ContinueOnError)
	once := flags.Bool("once", os.Getenv("ONCE") == "1", "exit when the story has been told: 0 if all of it held, else 1")
	agent := flags.String("agent", "", "path of certctl-agent; beside this program by default")
	nginx := flags.String("nginx", os.Getenv("CERTCTL_NGINX_BIN"), "path of nginx; looked for by default")
	keep := flags.Bool("keep", false, "leave the folder of the demonstration behind")
	if err := flags.Parse(args); err != nil {
		return usageError(err)
	}
	if *agent == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		*agent = filepath.Join(filepath.Dir(self), "certctl-agent")
	}
	if _, err := os.Stat(*agent); err != nil {
		return fmt.Errorf("the demonstration needs the agent: %w; build it with make build, or name it with --agent", err)
	}
	dir, err := os.MkdirTemp("", "certctl-demo-")
	if err != nil {
		return err
	}
	// The private Postgres may run as another user, who must get through.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // nobody can list it, and what is inside is closed
		return err
	}
	if *keep {
		fmt.Println("The demonstration's files stay in", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	return playDemo(ctx, dir, *agent, *nginx, *once)
}

func playDemo(ctx context.Context, dir, agent, nginx string, once bool) error {
	log := logger("error")
	cfg, err := up.Load(log)
	if err != nil {
		return err
	}
	cfg.Platform.DataDir = filepath.Join(dir, "data")
	if os.Getenv("CERTCTL_SERVER_PORT") == "" && once {
		cfg.Gateway.ServerPort = 0
	}
	cfg.Leaf.LocalLeafListen = "127.0.0.1:0"
	// The story asks a hundred times a second whether the next thing has happened.
	cfg.Gateway.RateLimitEnabled = false
	fmt.Println("Starting Postgres, NATS, a leaf and the services ...")

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, running := errgroup.WithContext(ctx)
	ready := make(chan up.Ready, 1)
	g.Go(func() error { return up.Run(running, cfg, log, func(r up.Ready) { ready <- r }) })
	g.Go(func() error {
		select {
		case r := <-ready:
			fmt.Printf("Up after %s.\n\n", r.Took.Round(time.Millisecond))
			return tell(running, stop, r, demo.Options{
				Dir: filepath.Join(dir, "host"), AgentBinary: agent, NGINXBinary: nginx, Out: os.Stdout, Log: log,
				Server: demo.Server{DataDir: cfg.Platform.DataDir},
			}, once)
		case <-running.Done():
			return nil
		}
	})
	return g.Wait()
}

// tell plays the story, then ends the installation or leaves it for visitors.
func tell(ctx context.Context, stop func(), r up.Ready, o demo.Options, once bool) error {
	key, err := os.ReadFile(r.AdminKeyFile)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil { // NGINX's workers get through it
		return err
	}
	o.URL, o.LeafURL, o.Key = r.URL, r.LeafURL, strings.TrimSpace(string(key))
	playing, end := context.WithCancel(ctx)
	defer end()
	summary, wait, err := demo.Play(playing, o)
	defer func() {
		end()
		wait()
	}()
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	if once {
		stop()
		return nil
	}
	fmt.Printf(`
It goes on running until you press Ctrl-C. To look around, in another terminal:

  export CERTCTL_SERVER_URL=%s CERTCTL_API_KEY_FILE=%s
  certctl-cli get-cert %s
  certctl-cli list-jobs
  openssl s_client -connect %s </dev/null

`, r.URL, r.AdminKeyFile, summary.CertificateID, summary.Site)
	<-ctx.Done()
	return nil
}
