#!/bin/bash
# Inside the new system: what an administrator sets on a fresh server.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
echo harbour-7 >/etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\tharbour-7.example.test harbour-7\n::1\tlocalhost ip6-localhost\n' >/etc/hosts
echo 5b1fa3d0c9e84c6f8a7e2d4411907cbe >/etc/machine-id
# The password is "lab"; nothing but the tests' own consoles reaches it.
perl -e 'print "root:", crypt("lab", q($6$lifeboat$)), "\n"' | chpasswd -e
echo 'Europe/Vienna' >/etc/timezone; ln -sf /usr/share/zoneinfo/Europe/Vienna /etc/localtime
ssh-keygen -A >/dev/null

cat >/etc/systemd/network/50-wired.network <<-'END'
	[Match]
	Driver=virtio_net e1000 e1000e vmxnet3

	[Network]
	DHCP=yes

	[DHCPv4]
	ClientIdentifier=mac
END
systemctl enable systemd-networkd.service >/dev/null 2>&1
# A server without this waits two minutes when it has no network, as here.
systemctl disable systemd-networkd-wait-online.service >/dev/null 2>&1

cat >/etc/default/grub <<-'END'
	GRUB_DEFAULT=0
	GRUB_TIMEOUT=1
	GRUB_DISTRIBUTOR=Debian
	GRUB_CMDLINE_LINUX_DEFAULT="quiet"
	GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
	GRUB_TERMINAL="console serial"
	GRUB_SERIAL_COMMAND="serial --speed=115200 --unit=0"
END

# The tests talk to this machine through a virtio port, if it has one.
echo 'SUBSYSTEM=="virtio-ports", ATTR{name}=="lab.agent", TAG+="systemd", ENV{SYSTEMD_WANTS}+="lab-agent.service"' \
	>/etc/udev/rules.d/90-lab-agent.rules
cat >/etc/systemd/system/lab-agent.service <<-'END'
	[Unit]
	Description=Agent of the tests

	[Service]
	ExecStart=/usr/local/sbin/lab-agent /dev/virtio-ports/lab.agent
	Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	Restart=always
	RestartSec=1
	# Whatever a test starts ends with its command, not with the agent.
	KillMode=process
END
for kernel in /boot/vmlinuz-*; do
	update-initramfs -c -k "${kernel#/boot/vmlinuz-}"
done >/run/initramfs.log 2>&1 || { cat /run/initramfs.log; exit 1; }
