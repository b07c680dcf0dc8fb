package qemu

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"lifeboat/internal/run"
)

// props are the properties of a block node or device. They go to QEMU as
// JSON, on the command line as well as by QMP, so names may hold any byte.
type props map[string]any

func (p props) json() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // only strings, numbers, bools and maps are ever put in
	}
	return string(b)
}

// paths are the places of one run's sockets and files.
type paths struct {
	dir      string // short, because unix socket paths end at 108 bytes
	firmware firmwareFiles
	vars     string
}

func (p paths) sock(name string) string { return filepath.Join(p.dir, name+".sock") }

// args are all arguments of QEMU for c.
func args(c Config, accel Accel, p paths) ([]string, error) {
	a := []string{"-name", comma(c.name()), "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", machineArg(c), "-vga", "std", "-boot", "strict=on"}
	a = append(a, cpuArgs(c, accel)...)
	a = append(a, firmwareArgs(c.Firmware, p.firmware, p.vars)...)
	if c.UUID != "" || c.Serial != "" {
		s := "type=1"
		if c.UUID != "" {
			s += ",uuid=" + comma(c.UUID)
		}
		if c.Serial != "" {
			s += ",serial=" + comma(c.Serial)
		}
		a = append(a, "-smbios", s)
	}
	if c.Kernel != "" {
		a = append(a, "-kernel", c.Kernel, "-append", c.Append)
		if c.Initrd != "" {
			a = append(a, "-initrd", c.Initrd)
		}
	}
	if c.NoReboot {
		a = append(a, "-no-reboot")
	}
	// Guests without entropy wait for it for minutes in emulation.
	a = append(a, "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0")
	a = append(a, "-chardev", "socket,id=qmp,path="+comma(p.sock("qmp")), "-mon", "chardev=qmp,mode=control")
	a = append(a, "-chardev", "socket,id=console,path="+comma(p.sock("console")), "-serial", "chardev:console")
	ports, err := portArgs(c, p)
	if err != nil {
		return nil, err
	}
	a = append(a, ports...)
	disks, err := driveArgs(c)
	if err != nil {
		return nil, err
	}
	a = append(a, disks...)
	nics, err := nicArgs(c)
	if err != nil {
		return nil, err
	}
	return append(append(a, nics...), c.Extra...), nil
}

func cpuArgs(c Config, accel Accel) []string {
	mem, cpus, cpu := c.Memory, c.CPUs, c.CPU
	if mem == 0 {
		mem = defaultMemory
	}
	if cpus == 0 {
		cpus = defaultCPUs
	}
	a := []string{"-m", strconv.FormatInt(mem>>20, 10) + "M", "-smp", strconv.Itoa(cpus)}
	if accel == KVM {
		a = append(a, "-accel", "kvm")
		if cpu == "" {
			cpu = "host"
		}
	} else {
		a = append(a, "-accel", "tcg,thread=multi")
		if cpu == "" {
			cpu = "max"
		}
	}
	return append(a, "-cpu", cpu)
}

func portArgs(c Config, p paths) ([]string, error) {
	var a []string
	serial, virtio := 0, 0
	for i, port := range c.Ports {
		if port.Name == "" || strings.ContainsAny(port.Name, ", /") {
			return nil, fmt.Errorf("port %d of %s: the name %q is empty or holds a comma, blank or slash", i, c.name(), port.Name)
		}
		id := "port" + strconv.Itoa(i)
		dev := "socket,id=" + id + ",path="
		if port.Socket != "" {
			dev += comma(port.Socket) + ",server=on,wait=off"
		} else {
			dev += comma(p.sock(id))
		}
		a = append(a, "-chardev", dev)
		if port.Serial {
			if serial++; serial > 3 {
				return nil, fmt.Errorf("%s: a PC has four serial ports and the console uses the first: at most 3 more", c.name())
			}
			a = append(a, "-device", props{"driver": "isa-serial", "chardev": id}.json())
			continue
		}
		if virtio == 0 {
			a = append(a, "-device", "virtio-serial-pci,id=ports")
		}
		virtio++
		a = append(a, "-device", props{"driver": "virtserialport", "bus": "ports.0", "chardev": id, "name": port.Name}.json())
	}
	return a, nil
}

// nicArgs gives each card a network of its own. restrict=on is written here
// and nowhere left out: rule 16 of the design.
func nicArgs(c Config) ([]string, error) {
	if len(c.NICs) == 0 {
		return []string{"-nic", "none"}, nil
	}
	var a []string
	for i, n := range c.NICs {
		id := "net" + strconv.Itoa(i)
		dev := "user,id=" + id + ",restrict=on"
		for _, f := range n.Forwards {
			if f.HostPort <= 0 || f.HostPort > 65535 || f.GuestPort <= 0 || f.GuestPort > 65535 {
				return nil, fmt.Errorf("%s: forward %d to %d: ports are 1 to 65535", c.name(), f.HostPort, f.GuestPort)
			}
			dev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.HostPort, f.GuestPort)
		}
		for _, s := range n.Services {
			cmd, err := s.command()
			if err != nil {
				return nil, err
			}
			dev += ",guestfwd=" + comma("tcp:"+s.Address+"-cmd:"+run.Quote(cmd))
		}
		model := n.Model
		if model == "" {
			model = "virtio-net-pci"
		}
		card := props{"driver": model, "netdev": id, "id": "nic" + strconv.Itoa(i)}
		if n.MAC != "" {
			card["mac"] = n.MAC
		}
		a = append(a, "-netdev", dev, "-device", card.json())
	}
	return a, nil
}

// command is what QEMU starts for each connection. QEMU's own forwarding to
// an address makes one connection at start and mixes all streams into it.
func (s GuestService) command() ([]string, error) {
	if len(s.Command) > 0 {
		return s.Command, nil
	}
	host, port, ok := strings.Cut(s.To, ":")
	if !ok || host == "" || port == "" || strings.ContainsAny(s.To, " '\"\\$`;&|<>()/") {
		return nil, fmt.Errorf("guest service %s: %q is not HOST:PORT of this machine", s.Address, s.To)
	}
	// The copy towards the server runs behind; the end of its answer ends all.
	script := "exec 3<>/dev/tcp/" + host + "/" + port + " 4<&0 || exit 1; cat <&4 >&3 & cat <&3; kill $!"
	return []string{"/bin/bash", "-c", script}, nil
}
