package natshttp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// requestLine is what a request has besides headers and body. It travels as one header,
//
//	<method> <wait> <host> <target>
//
// where wait is the caller's time in microseconds, with "d" before it when it is a deadline of the whole exchange, and
// "p" when it is the caller's patience until the response begins; and host is "-" when there is none.
type requestLine struct {
	method, host, target string
	wait                 time.Duration
	deadline             bool
}

const maxWait = 24 * time.Hour

func (l requestLine) String() string {
	kind := byte('p')
	if l.deadline {
		kind = 'd'
	}
	host := l.host
	if host == "" {
		host = "-"
	}
	wait := min(max(l.wait, time.Microsecond), maxWait)
	b := make([]byte, 0, len(l.method)+len(host)+len(l.target)+24)
	b = append(append(b, l.method...), ' ', kind)
	b = append(strconv.AppendInt(b, wait.Microseconds(), 10), ' ')
	b = append(append(b, host...), ' ')
	return string(append(b, l.target...))
}

func parseRequestLine(s string) (requestLine, error) {
	var l requestLine
	var wait string
	var ok [3]bool
	l.method, s, ok[0] = strings.Cut(s, " ")
	wait, s, ok[1] = strings.Cut(s, " ")
	l.host, l.target, ok[2] = strings.Cut(s, " ")
	if ok != [3]bool{true, true, true} || l.method == "" || len(wait) < 2 || wait[0] != 'd' && wait[0] != 'p' {
		return l, errors.New("malformed request line")
	}
	l.deadline = wait[0] == 'd'
	us, err := strconv.ParseInt(wait[1:], 10, 64)
	if err != nil || us <= 0 || us > maxWait.Microseconds() {
		return l, fmt.Errorf("%q is no time to wait", wait)
	}
	l.wait = time.Duration(us) * time.Microsecond
	if l.host == "-" {
		l.host = ""
	}
	return l, nil
}
