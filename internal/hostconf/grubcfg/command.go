package grubcfg

import (
	"path"
	"strconv"
	"strings"
)

func status(ok bool) (int, error) {
	if ok {
		return 0, nil
	}
	return 1, nil
}

// command runs one. What only touches the screen, or is not known, does
// nothing; as a condition it is false, as on a GRUB without that module.
func (g *grub) command(n *node) (int, error) {
	w := g.expand(n.words)
	if len(w) == 0 {
		return 0, nil
	}
	name, args := w[0], w[1:]
	if k, v, ok := strings.Cut(name, "="); ok && len(args) == 0 && k != "" && !n.block {
		g.vars[k] = v
		return 0, nil
	}
	if body, ok := g.funcs[name]; ok {
		old := g.args
		g.args = args
		st, err := g.run(body)
		g.args = old
		return st, err
	}
	switch name {
	case "menuentry", "submenu":
		*g.menu = append(*g.menu, newItem(name == "submenu", args, n.body))
	case "function":
		if len(args) > 0 {
			g.funcs[args[0]] = n.body
		}
	case "set":
		for _, a := range args {
			if k, v, ok := strings.Cut(a, "="); ok {
				g.vars[k] = strings.Trim(v, map[bool]string{true: "()", false: ""}[k == "root"])
			}
		}
	case "unset":
		for _, a := range args {
			delete(g.vars, a)
		}
	case "[", "test":
		if len(args) > 0 && args[len(args)-1] == "]" {
			args = args[:len(args)-1]
		}
		return status(g.test(args))
	case "search", "search.fs_uuid", "search.fs_label", "search.file":
		return status(g.search(strings.TrimPrefix(name, "search"), args))
	case "load_env":
		return status(g.loadEnv(args))
	case "source", "configfile", "normal", ".":
		if len(args) == 0 {
			return 1, nil
		}
		if fs, p := g.locate(args[0]); !g.exists(fs, p) {
			return 1, nil
		}
		return 0, g.source(args[0])
	case "blscfg":
		return 0, g.blscfg()
	case "linux", "linux16", "linuxefi":
		g.linux(args)
	case "initrd", "initrd16", "initrdefi":
		for _, a := range args {
			if !strings.HasPrefix(a, "--") {
				fs, p := g.locate(a)
				g.entry.Initrd = append(g.entry.Initrd, File{fs, p})
			}
		}
	case "true", "insmod", "export", "echo", "save_env", "terminal_input", "terminal_output", "savedefault", "play":
	default:
		return 1, nil
	}
	return 0, nil
}

// newItem reads the arguments of menuentry and submenu.
func newItem(sub bool, args []string, body []node) item {
	it := item{sub: sub, body: body}
	titled := false
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--id" || a == "--class" || a == "--users" || a == "--hotkey" || a == "--source":
			if i++; i < len(args) && a == "--id" {
				it.id = args[i]
			}
		case strings.HasPrefix(a, "--id="):
			it.id = a[len("--id="):]
		case strings.HasPrefix(a, "--"):
		case !titled:
			it.title, titled = a, true
		default:
			it.args = append(it.args, a)
		}
	}
	it.args = append([]string{it.title}, it.args...)
	return it
}

func (g *grub) linux(args []string) {
	for len(args) > 0 && strings.HasPrefix(args[0], "--") {
		args = args[1:]
	}
	if len(args) == 0 {
		return
	}
	title := g.entry.Title
	g.entry = Entry{Title: title}
	g.entry.FS, g.entry.Kernel = g.locate(args[0])
	words := []string{"BOOT_IMAGE=" + g.entry.Kernel}
	for _, a := range args[1:] {
		words = append(words, kernelWord(a))
	}
	g.entry.Args = strings.Join(words, " ")
}

// kernelWord writes an argument as GRUB hands it to the kernel.
func kernelWord(a string) string {
	var b strings.Builder
	for i := 0; i < len(a); i++ {
		hex := a[i] == '\\' && i+1 < len(a) && a[i+1] == 'x'
		if strings.IndexByte(`\'"`, a[i]) >= 0 && !hex {
			b.WriteByte('\\')
		}
		b.WriteByte(a[i])
	}
	if strings.Contains(a, " ") {
		return `"` + b.String() + `"`
	}
	return b.String()
}

// search finds a filesystem and keeps its name in a variable.
func (g *grub) search(kind string, args []string) bool {
	by := map[string]string{".fs_uuid": "fs-uuid", ".fs_label": "label", ".file": "file"}[kind]
	into, what := "root", ""
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--fs-uuid" || a == "-u":
			by = "fs-uuid"
		case a == "--label" || a == "-l" || a == "--fs-label":
			by = "label"
		case a == "--file" || a == "-f":
			by = "file"
		case strings.HasPrefix(a, "--set="):
			into = a[len("--set="):]
		case a == "--hint" || strings.HasPrefix(a, "--hint-") && !strings.Contains(a, "="):
			i++ // its value
		case strings.HasPrefix(a, "-"):
		case kind != "" && what != "": // search.fs_uuid UUID VARIABLE HINT
			into, kind = a, ""
		case what == "":
			what = a
		}
	}
	if by == "" || what == "" {
		return false
	}
	fs, ok := g.w.Search(by, what)
	if ok {
		g.vars[into] = fs
	}
	return ok
}

// loadEnv reads variables from GRUB's environment block.
func (g *grub) loadEnv(args []string) bool {
	file := g.vars["prefix"] + "/grubenv"
	only := map[string]bool{}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-f" || a == "--file":
			if i++; i < len(args) {
				file = args[i]
			}
		case strings.HasPrefix(a, "--file="):
			file = a[len("--file="):]
		case strings.HasPrefix(a, "-"):
		default:
			only[a] = true
		}
	}
	fs, p := g.locate(file)
	b, err := g.w.ReadFile(fs, p)
	if err != nil || !strings.HasPrefix(string(b), "# GRUB Environment Block\n") {
		return false
	}
	for _, l := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(l, "="); ok && l[0] != '#' && (len(only) == 0 || only[k]) {
			g.vars[k] = v
		}
	}
	return true
}

func (g *grub) exists(fs, p string) bool {
	if _, err := g.w.ReadFile(fs, p); err == nil {
		return true
	}
	return g.w.List(fs, p) != nil
}

// test is the command of that name.
func (g *grub) test(a []string) bool {
	for i, x := range a { // "or" binds weakest
		if x == "-o" {
			return g.test(a[:i]) || g.test(a[i+1:])
		}
	}
	for i, x := range a {
		if x == "-a" {
			return g.test(a[:i]) && g.test(a[i+1:])
		}
	}
	switch {
	case len(a) > 0 && a[0] == "!":
		return !g.test(a[1:])
	case len(a) == 1:
		return a[0] != ""
	case len(a) == 2:
		fs, p := g.locate(a[1])
		switch a[0] {
		case "-n":
			return a[1] != ""
		case "-z":
			return a[1] == ""
		case "-e", "-f", "-s":
			_, err := g.w.ReadFile(fs, p)
			return err == nil || a[0] == "-e" && g.w.List(fs, p) != nil
		case "-d":
			return g.w.List(fs, path.Clean(p)) != nil
		}
	case len(a) == 3:
		return compare(a[0], a[1], a[2])
	}
	return false
}

func compare(x, op, y string) bool {
	switch op {
	case "=", "==":
		return x == y
	case "!=":
		return x != y
	case "<":
		return x < y
	case ">":
		return x > y
	}
	m, err1 := strconv.ParseInt(x, 0, 64)
	n, err2 := strconv.ParseInt(y, 0, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	switch op {
	case "-eq":
		return m == n
	case "-ne":
		return m != n
	case "-lt":
		return m < n
	case "-le":
		return m <= n
	case "-gt":
		return m > n
	case "-ge":
		return m >= n
	}
	return false
}
