#!/usr/bin/perl
# The hand of the tests inside a virtual machine: carries out what comes in by
# a virtio port and sends back both streams and the exit status as they come.
#
#   agent.pl PORT
#
# in:  RUN id length\n script            PUT id length mode path\n bytes
#      PING id 0\n                       QUIT id 0\n
# out: OUT id length\n bytes             ERR id length\n bytes
#      END id code\n                     PONG id 0\n
use strict;
use warnings;

my $path = shift or die "usage: agent.pl PORT\n";
my $port;
if (-S $path) {    # a socket instead of a port, for trying it out
	require Socket;
	socket($port, Socket::PF_UNIX(), Socket::SOCK_STREAM(), 0) && connect($port, Socket::sockaddr_un($path)) or die "$path: $!\n";
} else {
	open($port, '+<:raw', $path) or die "$path: $!\n";
}
$SIG{PIPE} = 'IGNORE';

sub pull {    # exactly n bytes
	my ($n) = @_;
	my $buf = '';
	while (length($buf) < $n) {
		my $want = $n - length($buf);
		my $got = sysread($port, $buf, $want > 262144 ? 262144 : $want, length($buf));
		# Zero bytes: nobody holds the other end of the port at the moment.
		if (!$got) { select(undef, undef, undef, 0.1) }
	}
	return $buf;
}

sub header {
	my $line = '';
	while (1) {
		my $c = pull(1);
		return $line if $c eq "\n";
		$line .= $c;
	}
}

sub push_all {
	my ($buf) = @_;
	my $at = 0;
	while ($at < length($buf)) {
		my $n = syswrite($port, $buf, length($buf) - $at, $at);
		if (!defined $n) { select(undef, undef, undef, 0.1); next }
		$at += $n;
	}
}

sub frame { my ($verb, $id, $data) = @_; push_all("$verb $id " . length($data) . "\n" . $data) }

sub run_script {
	my ($id, $script) = @_;
	pipe(my $or, my $ow) or die $!;
	pipe(my $er, my $ew) or die $!;
	my $pid = fork();
	if (!defined $pid) { frame('ERR', $id, "fork: $!\n"); return 127 }
	if (!$pid) {
		close $or; close $er; close $port;
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>&', $ow);
		open(STDERR, '>&', $ew);
		close $ow; close $ew;
		$SIG{PIPE} = 'DEFAULT';
		setpgrp(0, 0);
		exec('/bin/bash', '-c', $script) or exit 127;
	}
	close $ow; close $ew;
	my %name = (fileno($or) => ['OUT', $or], fileno($er) => ['ERR', $er]);
	while (%name) {
		my $bits = '';
		vec($bits, $_, 1) = 1 for keys %name;
		next if select($bits, undef, undef, undef) < 0;
		for my $fd (keys %name) {
			next unless vec($bits, $fd, 1);
			my ($verb, $h) = @{ $name{$fd} };
			my $n = sysread($h, my $buf, 65536);
			if ($n) { frame($verb, $id, $buf) }
			elsif (defined $n) { delete $name{$fd} }
		}
	}
	waitpid($pid, 0);
	return $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

sub put_file {
	my ($id, $len, $mode, $file) = @_;
	my $fh;
	my $err = open($fh, '>:raw', $file) ? '' : "$file: $!";
	while ($len > 0) {
		my $part = pull($len > 262144 ? 262144 : $len);
		$len -= length($part);
		next if $err;
		print $fh $part or $err = "$file: $!";
	}
	if (!$err) { close($fh) or $err = "$file: $!" }
	if (!$err) { chmod(oct($mode), $file) or $err = "$file: $!" }
	frame('ERR', $id, "$err\n") if $err;
	return $err ? 1 : 0;
}

while (1) {
	my ($verb, $id, $len, @more) = split / /, header(), 5;
	if    ($verb eq 'PING') { push_all("PONG $id 0\n") }
	elsif ($verb eq 'RUN')  { my $s = pull($len); push_all("END $id " . run_script($id, $s) . "\n") }
	elsif ($verb eq 'PUT')  { push_all("END $id " . put_file($id, $len, @more) . "\n") }
	elsif ($verb eq 'QUIT') { push_all("END $id 0\n"); exit 0 }
	else                    { die "not understood: $verb\n" }
}
