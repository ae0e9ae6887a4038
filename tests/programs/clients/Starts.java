// SPDX-License-Identifier: Apache-2.0
// A service that has curl called for each request, by ProcessBuilder: BASE_URL. Tells its port.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Starts {
	static void serve(HttpExchange exchange, String base) throws IOException {
		try (exchange) {
			Process curl = new ProcessBuilder("curl", "-s", "-o", "/dev/null",
							  base + exchange.getRequestURI()).start();
			exchange.sendResponseHeaders(curl.waitFor() == 0 ? 200 : 502, -1);
		} catch (InterruptedException e) {
			Thread.currentThread().interrupt();
		}
	}

	public static void main(String[] args) throws IOException {
		HttpServer server = HttpServer.create(
			new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 16);
		server.createContext("/", exchange -> serve(exchange, args[0]));
		server.setExecutor(Executors.newFixedThreadPool(4));
		server.start();
		System.out.println(server.getAddress().getPort());
	}
}
