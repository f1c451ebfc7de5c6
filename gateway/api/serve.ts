/** The HTTP listener of the API (and of whatever else is mounted on the same application). */
import { readFileSync } from "node:fs";
import type { Hono } from "hono";
import { limits } from "../limits.ts";
import { cannotListen } from "../listening.ts";
import { isLoopback } from "../loopback.ts";

/** Of an answer; event streams send a comment more often than this. */
const quietSecondsMax = 60;

export interface ServeOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly tls?: { readonly cert: string; readonly key: string };
}

export interface ApiServer {
  readonly host: string;
  readonly port: number;
  /** Takes no new request and ends open streams. */
  close(): Promise<void>;
}

/** @throws GatewayError config.invalid where the port cannot be had */
// biome-ignore lint/suspicious/noExplicitAny: an application of any environment can be served.
export function serveApi(app: Hono<any>, options: ServeOptions): ApiServer {
  const server = serve(app, options);
  return {
    host: server.hostname ?? options.host,
    port: server.port ?? options.port,
    close: () => server.stop(true),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: as above.
function serve(app: Hono<any>, options: ServeOptions) {
  const tls = options.tls && { cert: readFileSync(options.tls.cert), key: readFileSync(options.tls.key) };
  try {
    return Bun.serve({
      hostname: options.host,
      port: options.port,
      maxRequestBodySize: limits.apiBodyBytesMax,
      // Seconds, until there is a request. How many connections there are cannot be bounded here: Bun does not tell.
      idleTimeout: Math.ceil(limits.apiRequestTimeoutMs / 1_000),
      fetch(request, self) {
        self.timeout(request, quietSecondsMax);
        const isInClear = options.tls === undefined && !isLoopback(self.requestIP(request)?.address);
        return app.fetch(request, { isInClear });
      },
      ...(tls && { tls }),
    });
  } catch (cause) {
    throw cannotListen("listen.http", options, cause);
  }
}
