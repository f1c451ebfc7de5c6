/** What is said of a listener that could not be had. */
import { GatewayError } from "./errors.ts";

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: "another process listens there",
  EADDRNOTAVAIL: "the address is none of this machine's",
  EACCES: "this user may not",
};

/** @param key of the configuration */
export function cannotListen(
  key: string,
  { host, port }: { readonly host: string; readonly port: number },
  cause: unknown,
): GatewayError {
  const { code = "", message } = cause as NodeJS.ErrnoException;
  const address = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  return new GatewayError("config.invalid", `${key}: ${address} cannot be listened on: ${reasons[code] ?? message}`, {
    cause,
  });
}
