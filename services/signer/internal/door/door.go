// Package door is the Unix socket by which one user of this machine, and nobody else, reaches the signer.
//
// The socket's file is for that user alone (mode 0600), and who is at the other end of a connection is asked of the kernel
// before anything is read from it. A socket that systemd hands over is taken as it is, and asked the same.
package door

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

const dialTimeout = time.Second

// Door is a listening socket. It implements [net.Listener].
type Door struct {
	*net.UnixListener
	uid int
	log *slog.Logger
}

// Open listens on the socket at a path for the user with an id; the path is not looked at if systemd has handed over a
// socket. A socket that a signer left behind is replaced, one that is served is not.
func Open(ctx context.Context, path string, uid int, log *slog.Logger) (*Door, error) {
	if err := canTell(); err != nil {
		return nil, err
	}
	l, err := handedOver()
	if err == nil && l == nil {
		l, err = listen(ctx, path, uid)
	}
	if err != nil {
		return nil, err
	}
	return Guard(l, uid, log), nil
}

// Guard has a listening socket admit the user with an id only.
func Guard(l *net.UnixListener, uid int, log *slog.Logger) *Door {
	return &Door{UnixListener: l, uid: uid, log: log}
}

func handedOver() (*net.UnixListener, error) {
	all, err := activation.Listeners()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if l, ok := all[0].(*net.UnixListener); ok && len(all) == 1 {
		return l, nil
	}
	return nil, errors.New("systemd has handed over something else than one Unix socket (ListenStream=)")
}

func listen(ctx context.Context, path string, uid int) (*net.UnixListener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("CERTCTL_SIGNER_SOCKET must be an absolute path, unless systemd hands over a socket")
	}
	if err := clear(ctx, path); err != nil {
		return nil, err
	}
	// Nobody else is to find it open before its mode is set.
	mask := syscall.Umask(0o177)
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	syscall.Umask(mask)
	if err != nil {
		return nil, fmt.Errorf("listen on CERTCTL_SIGNER_SOCKET: %w", err)
	}
	if uid != os.Geteuid() {
		if err := os.Chown(path, uid, -1); err != nil {
			return nil, errors.Join(fmt.Errorf("give the socket to CERTCTL_SIGNER_CLIENT, which only root may; run the signer as that user, or let systemd make "+
				"the socket: %w", err), l.Close())
		}
	}
	return l.(*net.UnixListener), nil
}

// clear removes the socket of a signer that is gone.
func clear(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("CERTCTL_SIGNER_SOCKET: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("CERTCTL_SIGNER_SOCKET: %s is there and is no socket", path)
	}
	if c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path); err == nil {
		return errors.Join(fmt.Errorf("CERTCTL_SIGNER_SOCKET: %s is served by another signer", path), c.Close())
	}
	return os.Remove(path)
}

// Accept waits for a connection of the user that the door is for. Others are hung up on.
func (d *Door) Accept() (net.Conn, error) {
	for {
		c, err := d.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peer(c)
		if err == nil && uid == d.uid {
			return c, nil
		}
		d.log.Warn("a connection was refused: it is not of CERTCTL_SIGNER_CLIENT", "uid", uid, "admitted", d.uid)
		_ = c.Close()
	}
}
