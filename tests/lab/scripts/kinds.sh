#!/bin/bash
# Inside the new system: files of every kind below DIR.
#
#   kinds.sh DIR full|some
#
# "some" leaves out what only ext4 has, and the large file.
set -euo pipefail
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
dir=$1 how=$2
mkdir -p "$dir"; cd "$dir"

# Content that looks random to a compressor and is the same in every run.
noise() { perl -e 'use integer; my ($n, $x) = @ARGV; my $b = ""; while ($n > 0) { for (1 .. 16384) { $x ^= $x << 13; $x ^= ($x >> 7) & 0x01ffffffffffffff; $x ^= $x << 17; $b .= pack("q", $x) } print substr($b, 0, $n > length $b ? length $b : $n); $n -= length $b; $b = "" }' "$1" "$2"; }

mkdir links && cd links
noise 5000 11 >one; ln one two; mkdir deep; ln one deep/three
ln -s ../kinds/nowhere dangling; ln -s "$(printf 'x%.0s' {1..900})" long-target; ln -s one relative
ln relative hard-link-to-symlink
chown -h 77:88 relative; touch -h -d '2001-02-03 04:05:06.789012345' relative
cd ..

mkdir modes && cd modes
for m in 0000 0400 0644 0755 1777 2755 4755 6711 7777; do echo "$m" >"f$m"; chmod "$m" "f$m"; mkdir "d$m"; chmod "$m" "d$m"; done
echo x >owner; chown 4294967000:4294967001 owner; chmod 4750 owner
cd ..

mkdir special && cd special
mkfifo -m 0622 fifo; mknod -m 0640 block b 7 3; mknod -m 0666 char c 1 3; mknod char-large c 511 262143
perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un("socket")) or die $!'
cd ..

mkdir names && cd names
echo 1 >$'new\nline'; echo 2 >$'tab\there'; echo 3 >'Grüße aus Zürich'; echo 4 >$'latin1-\xe9\xff'; echo 5 >'-rf'; echo 6 >' lead and trail '
echo 7 >'back\slash'; echo 8 >'quote"'"'"; echo 9 >$'\x01\x7f'; echo 10 >'*?[a]'; echo 11 >'\012'; echo 12 >'e.zst'; echo 13 >'日本語'
echo 14 >"$(printf 'n%.0s' {1..255})"; mkdir "$(printf 'd%.0s' {1..255})"; echo 15 >'#file'; echo 16 >$'e\u0301' ; echo 17 >$'\u00e9'
cd ..

mkdir -p deep && (cd deep; for i in {1..20}; do n=$(printf "%03d-%.0s" {1..40}); mkdir "$n"; cd "$n"; done; echo bottom >file) # 3200 bytes of path
mkdir empty; chmod 3711 empty; chown 12:34 empty; touch -d '1999-12-31 23:59:59.000000001' empty

mkdir times && cd times
echo a >early; touch -d '1970-01-01 00:00:01.5 UTC' early
echo a >late; touch -d '2037-12-31 23:59:59.999999999 UTC' late
echo a >nano; touch -d '2024-02-29 12:00:00.123456789 UTC' nano
cd ..

mkdir attributes && cd attributes
cp /bin/true caps; setcap cap_net_bind_service,cap_net_raw=ep caps; cp /bin/true caps-inherit; setcap cap_dac_override=eip caps-inherit
echo a >acl; setfacl -m u:1000:rw,u:4294967000:r,g:33:rx,m::rw acl
mkdir default-acl; setfacl -d -m u:1000:rwx,g:44:r,o::--- default-acl; setfacl -m g:55:rx default-acl
echo x >xattr; setfattr -n user.text -v 'a value' xattr; setfattr -n user.empty xattr; setfattr -n user.binary -v 0x00ff0a0d7f xattr
setfattr -n trusted.lab -v secret xattr; setfattr -n security.lab -v 0x0102 xattr; setfattr -n user.Grüße -v 'é' xattr
setfattr -n user.large -v "$(printf 'v%.0s' {1..1500})" xattr
ln -s xattr link; setfattr -h -n trusted.link -v 'on the link itself' link
mkdir dir; setfattr -n user.dir -v d dir
mknod -m 0600 pipe p; setfattr -h -n trusted.pipe -v p pipe
cd ..

mkdir sparse && cd sparse
truncate -s 0 empty; truncate -s 1G one-gib
printf head | dd of=one-gib conv=notrunc status=none
printf middle | dd of=one-gib bs=1 seek=536870999 conv=notrunc status=none
noise 131072 5 | dd of=one-gib bs=4096 seek=200000 conv=notrunc status=none
truncate -s 10000001 hole-only
noise 70000 6 >hole-at-end; truncate -s 3000000 hole-at-end
for i in $(seq 0 2 78); do noise 4096 $((i + 1)) | dd of=many-holes bs=4096 seek=$((i * 4)) conv=notrunc status=none; done
head -c 400000 /dev/zero >zeros-written
cd ..

mkdir many && (cd many; for i in $(seq 1 300); do noise $((i * 7)) "$i" >"file-$i"; done)

if [ "$how" = full ]; then
	mkdir flags && cd flags
	echo a >immutable; echo b >append; echo c >nodump; mkdir dir; echo d >dir/inside
	setfattr -n user.kept -v 1 immutable; touch -d '2020-01-01 00:00:00.5' immutable append
	chattr +i immutable; chattr +a append; chattr +dA nodump; chattr +i dir
	cd ..
	noise $((300 << 20)) 42 >large
fi
chown 99:4321 .; chmod 2775 .; setfattr -n user.above -v 'on the mount' .
touch -d '2022-02-22 22:22:22.222222222' .
