// SPDX-License-Identifier: Apache-2.0
// Calls a peer with HttpURLConnection: HOST:PORT GIVEUP_MS one|loop.
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.Proxy;
import java.net.URL;

public class Call {
	static boolean fine;

	static String told(String peer, int giveup) {
		try {
			HttpURLConnection c = (HttpURLConnection)
				new URL("http://" + peer + "/").openConnection(Proxy.NO_PROXY);
			c.setConnectTimeout(giveup);
			c.setReadTimeout(giveup);
			try (InputStream in = c.getInputStream()) {
				fine = true;
				return "ok " + new String(in.readAllBytes()).trim();
			}
		} catch (IOException e) {
			fine = false;
			return "error " + e.getClass().getSimpleName() + ": " + e.getMessage();
		}
	}

	public static void main(String[] args) throws IOException {
		int giveup = Integer.parseInt(args[1]);
		if (args[2].equals("one")) {
			System.out.println(told(args[0], giveup));
			System.exit(fine ? 0 : 1);
		}
		BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
		while (in.readLine() != null) {
			long began = System.nanoTime();
			String text = told(args[0], giveup);
			System.out.printf("%.3f %s%n", (System.nanoTime() - began) / 1e6, text);
		}
	}
}
