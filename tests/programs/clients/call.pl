# SPDX-License-Identifier: Apache-2.0
# Calls a peer with LWP: HOST:PORT GIVEUP_MS one|loop.
use strict;
use warnings;
use LWP::UserAgent;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($peer, $giveup, $mode) = @ARGV;
my $agent = LWP::UserAgent->new(timeout => $giveup / 1000);
$| = 1;

sub told {
	my $reply = $agent->get("http://$peer/");
	my $text = $reply->is_success ? 'ok ' . $reply->decoded_content
				      : 'error ' . $reply->status_line;
	$text =~ s/\s+/ /g;
	$text =~ s/ $//;
	return ($reply->is_success, $text);
}

if ($mode eq 'one') {
	my ($fine, $text) = told();
	print "$text\n";
	exit($fine ? 0 : 1);
}
while (<STDIN>) {
	my $began = clock_gettime(CLOCK_MONOTONIC);
	my (undef, $text) = told();
	printf "%.3f %s\n", (clock_gettime(CLOCK_MONOTONIC) - $began) * 1000, $text;
}
