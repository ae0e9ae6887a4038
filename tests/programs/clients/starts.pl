# SPDX-License-Identifier: Apache-2.0
# A service that has curl called for each request, by exec in a child: BASE_URL. Tells its port.
use strict;
use warnings;
use IO::Socket::INET;

my ($base) = @ARGV;
my $listener = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1', Proto => 'tcp')
	or die "listen: $!";

$| = 1;
print $listener->sockport, "\n";
while (my $link = $listener->accept) {
	my $head = '';

	while ($head !~ /\r\n\r\n/) {
		last unless sysread($link, $head, 65536, length $head);
	}
	next unless $head =~ m{^GET (\S+)};
	my $status = system('curl', '-s', '-o', '/dev/null', "$base$1") == 0 ? '200 OK' : '502 Bad';
	syswrite($link, "HTTP/1.1 $status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	close $link;
}
