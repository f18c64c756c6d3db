package catalogtest

import "syscall"

// endWithParent makes a process end when the thread does that started it, also when
// the tests panic or are killed.
func endWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	out := syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if attr != nil {
		out.Credential = attr.Credential
	}
	return &out
}
