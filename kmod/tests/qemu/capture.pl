#!/usr/bin/perl
# Writes a capture as SIPp plays it: so many packets of PCMU, 10 ms apart, over Ethernet and IPv4.
use strict;
use warnings;

my $packets = shift // die "usage: capture.pl PACKETS\n";
binmode STDOUT;
print pack 'LSSlLLL', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1;
for my $n (0 .. $packets - 1) {
    my $rtp = pack('CCnNN', 0x80, 0, $n & 0xffff, $n * 80, 7) . "\xff" x 80;
    my $udp = pack('nnnn', 6000, 6000, 8 + length $rtp, 0) . $rtp;
    my $ip = pack('CCnnnCCnNN', 0x45, 0, 20 + length $udp, 0, 0, 64, 17, 0, 0xc0000201, 0xc0000202);
    my $frame = pack('H*', '02000000000102000000000208' . '00') . $ip . $udp;
    my $us = $n * 10_000;
    print pack('LLLL', int($us / 1_000_000), $us % 1_000_000, length $frame, length $frame), $frame;
}
