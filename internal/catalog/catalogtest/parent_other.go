//go:build !linux

package catalogtest

import "syscall"

// endWithParent is for Linux alone; elsewhere killed tests leave their server running.
func endWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }
