/** `sallyport psql <target>`: psql with the caller's token as its password. A convenience: psql alone does as well. */
import { existsSync } from "node:fs";
import { callerToken, gatewayAddress } from "./api-client.ts";
import {
  ClientError,
  type Command,
  exitCodes,
  type Invocation,
  requirePositional,
  stringOption,
  UsageError,
} from "./command.ts";
import { describeToken } from "./login.ts";
import { runForeground } from "./run-foreground.ts";

const defaultPort = "6432";

export const psqlCommand: Command = {
  name: "psql",
  summary: "Runs psql against a target through the gateway; what follows the target goes to psql.",
  synopsis: "[options] <target>[/database] [psql arguments…]",
  options: {
    gateway: { type: "string", value: "url", help: "the gateway's address, for its host (SALLYPORT_GATEWAY)" },
    postgres: {
      type: "string",
      value: "host:port",
      help: "the PostgreSQL listener (SALLYPORT_POSTGRES, <gateway's host>:6432)",
    },
    user: { type: "string", value: "name", help: "the token's e-mail or subject when not given" },
  },
  positionals: { min: 1, max: 1 },
  passThrough: "after-first",
  async run(invocation) {
    const target = requirePositional(invocation, 0);
    const psql = Bun.which("psql");
    if (psql === null)
      throw new ClientError(exitCodes.failed, "internal", "psql is not on the PATH.", "Install PostgreSQL's client.");
    const token = await callerToken(invocation.terminal.environment);
    const user = stringOption(invocation, "user") ?? describeToken(token).user;
    if (user === "") throw new UsageError("the token names no user; give --user");
    const environment = psqlEnvironment(invocation, { target, user, token, rootCertificates: systemRoots(psql) });
    return await runForeground([psql, ...invocation.positionals.slice(1)], environment);
  },
};

const bundleFiles = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** The system's authorities, as PGSSLROOTCERT: by name since libpq 16, before that the file of Debian, Red Hat, SUSE or macOS. */
function systemRoots(psql: string): string | undefined {
  const version = Bun.spawnSync([psql, "--version"]).stdout.toString();
  const [, major] = / (\d+)\D/.exec(version) ?? [];
  return Number(major) < 16 ? bundleFiles.find((path) => existsSync(path)) : "system";
}

export interface PsqlConnection {
  readonly target: string;
  readonly user: string;
  readonly token: string;
  /** PGSSLROOTCERT where the caller's environment has none; libpq's default where there is none. */
  readonly rootCertificates: string | undefined;
}

/** libpq's settings come by the environment, so that the token is in no argument list. */
export function psqlEnvironment(invocation: Invocation, connection: PsqlConnection): Record<string, string> {
  const { host, port } = postgresAddress(invocation);
  const environment: Record<string, string> = {};
  // A service or an address of the caller's own would take the token to another server.
  for (const [name, value] of Object.entries(invocation.terminal.environment))
    if (value !== undefined && !["PGSERVICE", "PGHOSTADDR", "PGPASSFILE", "SALLYPORT_TOKEN"].includes(name))
      environment[name] = value;
  const isLoopback = ["127.0.0.1", "::1", "localhost"].includes(host);
  return {
    ...environment,
    PGHOST: host,
    PGPORT: port,
    PGUSER: connection.user,
    PGDATABASE: connection.target,
    PGPASSWORD: connection.token,
    ...(isLoopback
      ? { PGSSLMODE: environment.PGSSLMODE ?? "prefer" }
      : remoteTls(environment, connection.rootCertificates)),
  };
}

function remoteTls(
  environment: Readonly<Record<string, string>>,
  rootCertificates: string | undefined,
): Record<string, string> {
  const mode = environment.PGSSLMODE ?? "verify-full";
  // The token must not go in clear, nor to whoever answers.
  if (!["require", "verify-ca", "verify-full"].includes(mode))
    throw new UsageError(`PGSSLMODE=${mode} would send the token in clear; use verify-full`);
  return {
    PGSSLMODE: mode,
    ...(environment.PGSSLROOTCERT === undefined &&
      mode === "verify-full" &&
      rootCertificates !== undefined && { PGSSLROOTCERT: rootCertificates }),
  };
}

function postgresAddress(invocation: Invocation): { host: string; port: string } {
  const text = stringOption(invocation, "postgres") ?? invocation.terminal.environment.SALLYPORT_POSTGRES;
  if (text === undefined)
    return { host: gatewayAddress(invocation).hostname.replace(/^\[|\]$/g, ""), port: defaultPort };
  const match = /^(\[[0-9a-fA-F:]+\]|[^\s:[\],/]+)(?::([0-9]{1,5}))?$/.exec(text);
  if (match?.[1] === undefined) throw new UsageError(`"${text}" is not an address such as 127.0.0.1:6432`);
  return { host: match[1].replace(/^\[|\]$/g, ""), port: match[2] ?? defaultPort };
}
