package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// logger writes PID 1's lines to the kernel log, which every console and dmesg
// shows, and to a file.
type logger struct {
	mu    sync.Mutex
	kmsg  *os.File
	file  *os.File
	early []string // lines from before there were files
	bytes int
}

const (
	logPath = "/run/lifeboat/init.log"
	logMax  = 1 << 20 // bytes: a fault that repeats must not fill the memory
)

func openLog() *logger { return &logger{} }

// attach opens the files once /dev and /run are there.
func (l *logger) attach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kmsg, _ = os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	l.file, _ = os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	for _, s := range l.early {
		l.put(s)
	}
	l.early = nil
}

func (l *logger) f(format string, args ...any) {
	s := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kmsg == nil && l.file == nil {
		if len(l.early) < 1000 {
			l.early = append(l.early, s)
		}
		return
	}
	l.put(s)
}

func (l *logger) put(s string) {
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\n")
		if l.kmsg != nil {
			// Level 6: recorded, not shown over what a person is reading.
			fmt.Fprintf(l.kmsg, "<30>lifeboat-init: %.900s\n", line)
		}
		if l.file != nil && l.bytes < logMax {
			n, _ := fmt.Fprintln(l.file, line)
			l.bytes += n
		}
	}
}
