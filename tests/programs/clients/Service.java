// SPDX-License-Identifier: Apache-2.0
// The service of service.py on the JDK's HttpServer with a pool of threads and
// HttpURLConnection: a POST of a JSON list of {url, arguments} makes these calls.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

public class Service {
	// The end of the JSON value that begins at @at: brackets are counted outside of strings.
	static int end(String json, int at) {
		int depth = 0;
		boolean quoted = false;
		for (; at < json.length(); at++) {
			char c = json.charAt(at);
			if (quoted) {
				if (c == '\\')
					at++;
				else if (c == '"')
					quoted = false;
				continue;
			}
			if (c == '"')
				quoted = true;
			else if (c == '[' || c == '{')
				depth++;
			else if ((c == ']' || c == '}') && --depth < 0)
				return at;
			else if (c == ',' && depth == 0)
				return at;
		}
		return at;
	}

	// The value of a member of the object @json, as it stands; "[]" when there is none.
	static String member(String json, String name) {
		int at = 1;
		while (at < json.length() - 1) {
			int stop = end(json, at);
			String[] pair = json.substring(at, stop).split(":", 2);
			if (pair[0].trim().equals('"' + name + '"'))
				return pair[1].trim();
			at = stop + 1;
		}
		return "[]";
	}

	static void call(String url, String body) throws IOException {
		HttpURLConnection c = (HttpURLConnection) new URL(url).openConnection(Proxy.NO_PROXY);
		c.setRequestMethod("POST");
		c.setRequestProperty("Content-Type", "application/json");
		c.setDoOutput(true);
		try (OutputStream out = c.getOutputStream()) {
			out.write(body.getBytes(StandardCharsets.UTF_8));
		}
		try (InputStream in = c.getInputStream()) {
			in.readAllBytes();
		}
	}

	static void serve(HttpExchange exchange) throws IOException {
		try (exchange) {
			String json = new String(exchange.getRequestBody().readAllBytes(),
						 StandardCharsets.UTF_8).trim();
			int status = 200;
			try {
				for (int at = 1; at < json.length() - 1;) {
					int stop = end(json, at);
					String action = json.substring(at, stop).trim();
					String url = member(action, "url");
					call(url.substring(1, url.length() - 1), member(action, "arguments"));
					at = stop + 1;
				}
			} catch (IOException e) {
				status = 502;
			}
			exchange.sendResponseHeaders(status, 3);
			exchange.getResponseBody().write("[]\n".getBytes());
		}
	}

	public static void main(String[] args) throws IOException {
		HttpServer server = HttpServer.create(new InetSocketAddress(
			InetAddress.getLoopbackAddress(), args.length > 1 ? Integer.parseInt(args[1]) : 0), 128);
		server.createContext("/", Service::serve);
		server.setExecutor(Executors.newFixedThreadPool(Integer.parseInt(args[0])));
		server.start();
		System.out.println(server.getAddress().getPort());
	}
}
