package door

import (
	"errors"
	"net"
	"syscall"
)

func canTell() error { return nil }

// peer returns the user at the other end, as the kernel noted it when the connection was made; -1 if that is not known.
func peer(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var credential *syscall.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		credential, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || asked != nil {
		return -1, errors.Join(err, asked)
	}
	return int(credential.Uid), nil
}
