/** `sallyport psql <target>`: psql with the caller's token as its password. A convenience: psql alone does as well. */
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
    const environment = psqlEnvironment(invocation, { target, user, token });
    return await runForeground([psql, ...invocation.positionals.slice(1)], environment);
  },
};

/** libpq's settings come by the environment, so that the token is in no argument list. */
export function psqlEnvironment(
  invocation: Invocation,
  connection: { readonly target: string; readonly user: string; readonly token: string },
): Record<string, string> {
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
    ...(isLoopback ? { PGSSLMODE: environment.PGSSLMODE ?? "prefer" } : remoteTls(environment)),
  };
}

function remoteTls(environment: Readonly<Record<string, string>>): Record<string, string> {
  const mode = environment.PGSSLMODE ?? "verify-full";
  // The token must not go in clear, nor to whoever answers.
  if (!["require", "verify-ca", "verify-full"].includes(mode))
    throw new UsageError(`PGSSLMODE=${mode} would send the token in clear; use verify-full`);
  return {
    PGSSLMODE: mode,
    ...(environment.PGSSLROOTCERT === undefined && mode === "verify-full" && { PGSSLROOTCERT: "system" }),
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
