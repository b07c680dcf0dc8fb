package grubcfg

import (
	"errors"
	"fmt"
	"strings"
)

// part is a piece of a word: text, or the value of a variable.
type part struct {
	text   string
	name   string // of the variable; "" for text
	quoted bool   // not split at blanks
}

type word []part

// plain is a word that is written without quotes or variables, as keywords
// are.
func (w word) plain() string {
	if len(w) == 1 && w[0].name == "" && !w[0].quoted {
		return w[0].text
	}
	return ""
}

// node is a command, or what rules others. A command with a block (menuentry,
// submenu, function) has it in body.
type node struct {
	kind  string // "cmd", "if", "for", "while", "until"
	words []word
	block bool
	body  []node
	conds [][]node // if: of each branch
	then  [][]node // if: of each branch
	other []node   // if: else
}

// limits keep foreign files from taking all memory or time.
const (
	maxText  = 4 << 20
	maxDepth = 64
)

var errSyntax = errors.New("not understood")

// lexer splits text into words, line ends and braces.
type lexer struct {
	s    string
	at   int
	line int
	// one token of look-ahead
	have bool
	tok  token
}

// token is a word, or an end of a command when sep is set, or the end of the
// text when both are empty.
type token struct {
	w   word
	sep bool
}

func (t token) end() bool { return t.w == nil && !t.sep }

func (l *lexer) peek() token {
	if !l.have {
		l.tok, l.have = l.next(), true
	}
	return l.tok
}

func (l *lexer) take() token {
	t := l.peek()
	l.have = false
	return t
}

func (l *lexer) next() token {
	for l.at < len(l.s) {
		switch c := l.s[l.at]; {
		case c == ' ' || c == '\t' || c == '\r':
			l.at++
		case c == '\\' && strings.HasPrefix(l.s[l.at+1:], "\n"):
			l.at += 2
			l.line++
		case c == '#':
			for l.at < len(l.s) && l.s[l.at] != '\n' {
				l.at++
			}
		case c == '\n' || c == ';':
			l.at++
			if c == '\n' {
				l.line++
			}
			return token{sep: true}
		case c == '{' || c == '}':
			l.at++
			return token{w: word{{text: string(c)}}}
		default:
			return token{w: l.word()}
		}
	}
	return token{}
}

// word reads up to the next blank, end of command or brace.
func (l *lexer) word() word {
	w := word{}
	add := func(text string, quoted bool) {
		if n := len(w); n > 0 && w[n-1].name == "" && w[n-1].quoted == quoted {
			w[n-1].text += text
			return
		}
		w = append(w, part{text: text, quoted: quoted})
	}
	for l.at < len(l.s) {
		switch c := l.s[l.at]; c {
		case ' ', '\t', '\r', '\n', ';', '{', '}':
			return w
		case '\\':
			l.at++
			if l.at < len(l.s) {
				add(l.s[l.at:l.at+1], true)
				l.at++
			}
		case '\'':
			text, n := upTo(l.s[l.at+1:], '\'')
			l.line += strings.Count(text, "\n")
			add(text, true)
			l.at += 1 + n
		case '"':
			l.at++
			l.double(&w, add)
		case '$':
			if v, n := variable(l.s[l.at:]); n > 0 {
				w = append(w, part{name: v})
				l.at += n
				continue
			}
			l.at++
			if l.at >= len(l.s) || l.s[l.at] != '"' { // $"text" is a translated text
				add("$", false)
			}
		default:
			add(string(c), false)
			l.at++
		}
	}
	return w
}

// double reads the inside of double quotes.
func (l *lexer) double(w *word, add func(string, bool)) {
	add("", true)
	for l.at < len(l.s) {
		c := l.s[l.at]
		if v, n := variable(l.s[l.at:]); n > 0 {
			*w = append(*w, part{name: v, quoted: true})
			l.at += n
			continue
		}
		l.at++
		switch {
		case c == '"':
			return
		case c == '\\' && l.at < len(l.s) && strings.IndexByte("$\"\\\n", l.s[l.at]) >= 0:
			if l.s[l.at] != '\n' {
				add(l.s[l.at:l.at+1], true)
			}
			l.at++
		default:
			if c == '\n' {
				l.line++
			}
			add(string(c), true)
		}
	}
}

// upTo is the text before the next c, and how much of s that takes with c.
func upTo(s string, c byte) (string, int) {
	if i := strings.IndexByte(s, c); i >= 0 {
		return s[:i], i + 1
	}
	return s, len(s)
}

// variable reads $name, ${name}, $1, $@, $#, $* and $? at the beginning of s.
func variable(s string) (name string, n int) {
	if len(s) < 2 || s[0] != '$' {
		return "", 0
	}
	if s[1] == '{' {
		i := strings.IndexByte(s, '}')
		if i < 3 || strings.ContainsAny(s[2:i], " \t\n\"'") {
			return "", 0
		}
		return s[2:i], i + 1
	}
	if strings.IndexByte("@#*?0123456789", s[1]) >= 0 {
		return s[1:2], 2
	}
	i := 1
	for i < len(s) && (s[i] == '_' || s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || i > 1 && s[i] >= '0' && s[i] <= '9') {
		i++
	}
	if i == 1 {
		return "", 0
	}
	return s[1:i], i
}

// parse reads a whole file.
func parse(text string) ([]node, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("GRUB's configuration of %d bytes: %w", len(text), errSyntax)
	}
	l := &lexer{s: text, line: 1}
	out, err := l.list(0)
	if err == nil && !l.peek().end() {
		err = errSyntax // something closes what was never opened
	}
	if err != nil {
		return nil, fmt.Errorf("GRUB's configuration near line %d: %w", l.line, err)
	}
	return out, nil
}

// list reads commands up to one of the closing words.
func (l *lexer) list(depth int, closing ...string) ([]node, error) {
	if depth > maxDepth {
		return nil, errSyntax
	}
	var out []node
	for {
		t := l.peek()
		if t.sep {
			l.take()
			continue
		}
		k := t.w.plain()
		if t.end() || isClosing(k) {
			for _, c := range closing {
				if k == c && !t.end() {
					return out, nil
				}
			}
			if len(closing) > 0 {
				return nil, errSyntax
			}
			return out, nil
		}
		n, err := l.statement(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
}

func isClosing(k string) bool {
	switch k {
	case "then", "elif", "else", "fi", "do", "done", "}":
		return true
	}
	return false
}

func (l *lexer) statement(depth int) (n node, err error) {
	switch k := l.peek().w.plain(); k {
	case "if":
		return l.ifNode(depth)
	case "while", "until":
		l.take()
		n.kind = k
		var cond []node
		if cond, err = l.list(depth, "do"); err != nil {
			return n, err
		}
		n.conds = [][]node{cond}
		l.take()
		n.body, err = l.closed(depth, "done")
		return n, err
	case "for":
		l.take()
		n.kind = "for"
		for t := l.take(); !t.sep; t = l.take() {
			if t.end() {
				return n, errSyntax
			}
			n.words = append(n.words, t.w)
		}
		for l.peek().sep {
			l.take()
		}
		if l.take().w.plain() != "do" || len(n.words) < 2 || n.words[1].plain() != "in" {
			return n, errSyntax
		}
		n.body, err = l.closed(depth, "done")
		return n, err
	}
	return l.command(depth)
}

func (l *lexer) closed(depth int, word string) ([]node, error) {
	body, err := l.list(depth, word)
	if err == nil {
		l.take()
	}
	return body, err
}

func (l *lexer) ifNode(depth int) (n node, err error) {
	n.kind = "if"
	for {
		l.take() // if, elif
		cond, err := l.list(depth, "then")
		if err != nil {
			return n, err
		}
		l.take()
		then, err := l.list(depth, "elif", "else", "fi")
		if err != nil {
			return n, err
		}
		n.conds, n.then = append(n.conds, cond), append(n.then, then)
		switch l.peek().w.plain() {
		case "else":
			l.take()
			n.other, err = l.closed(depth, "fi")
			return n, err
		case "fi":
			l.take()
			return n, nil
		}
	}
}

// command reads words up to the end of the line, and a block behind them.
func (l *lexer) command(depth int) (n node, err error) {
	n.kind = "cmd"
	for {
		t := l.peek()
		if t.sep || t.end() || t.w.plain() == "}" {
			return n, nil
		}
		l.take()
		if t.w.plain() != "{" {
			n.words = append(n.words, t.w)
			continue
		}
		n.block = true
		n.body, err = l.closed(depth, "}")
		return n, err
	}
}
