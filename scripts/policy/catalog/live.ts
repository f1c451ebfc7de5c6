/** Reads the catalog of a live database, as the gateway does when a session opens. */
import { readFileSync } from "node:fs";
import { simpleQuery } from "../../../gateway/postgres/simple-query.ts";
import type { Catalog } from "../../../gateway/postgres/sql/catalog.ts";
import { loadCatalog } from "../../../gateway/postgres/sql/load-catalog.ts";
import { connectUpstream, type UpstreamOptions } from "../../../gateway/postgres/upstream.ts";

/** postgres://user:password@host:port/database?sslmode=…; sslmode is verify-full, on loopback disable, unless given. */
export function optionsOfUrl(text: string): UpstreamOptions {
  const url = URL.parse(text);
  // It is not shown: it may have a password in it.
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol))
    throw new Error("a live database is named as postgres://user:password@host:port/database");
  const host = decodeURIComponent(url.hostname);
  const loopback = ["localhost", "127.0.0.1", "[::1]"].includes(host);
  const tls = url.searchParams.get("sslmode") ?? (loopback ? "disable" : "verify-full");
  if (tls !== "disable" && tls !== "require" && tls !== "verify-ca" && tls !== "verify-full") {
    throw new Error(`sslmode=${tls}: one of disable, require, verify-ca, verify-full`);
  }
  const ca = url.searchParams.get("sslrootcert");
  return {
    host,
    port: url.port === "" ? 5432 : Number(url.port),
    tls,
    ...(ca !== null && { ca: readFileSync(ca, "utf8") }),
    user: decodeURIComponent(url.username),
    ...(url.password !== "" && { password: decodeURIComponent(url.password) }),
    database: decodeURIComponent(url.pathname.slice(1)) || decodeURIComponent(url.username),
    parameters: {},
  };
}

/** @throws Error that names the server, GatewayError upstream.* */
export async function readLiveCatalog(options: UpstreamOptions): Promise<Catalog> {
  const connection = await connectUpstream(options).catch((cause: Error) => {
    throw new Error(`${options.host}:${options.port}: ${cause.message}`, { cause });
  });
  try {
    return await loadCatalog((sql) => simpleQuery(connection, sql));
  } finally {
    connection.destroy();
  }
}
