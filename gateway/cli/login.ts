/** `sallyport login` and `sallyport token`. */
import { decodeJwt } from "jose";
import { currentToken, login } from "../identity/login.ts";
import { callerToken } from "./api-client.ts";
import { type Command, exitCodes, stringOption, UsageError } from "./command.ts";
import { escapeControls, paint, printJson, shortDuration } from "./terminal.ts";

export const loginCommand: Command = {
  name: "login",
  summary: "Logs in at an identity provider in the browser, or with a code on another device, and keeps the token.",
  synopsis: "[options]",
  options: {
    issuer: { type: "string", value: "url", help: "the identity provider (SALLYPORT_ISSUER)" },
    "client-id": { type: "string", value: "id", help: "the client registered for logins there (SALLYPORT_CLIENT_ID)" },
    scope: { type: "string", value: "scopes", help: "openid email groups offline_access when not given" },
    profile: {
      type: "string",
      value: "name",
      help: "id-token (when not given) or access-token: what the gateway takes",
    },
    device: { type: "boolean", help: "show a code to enter on another device; no browser here" },
    json: { type: "boolean", help: "write JSON" },
  },
  positionals: { min: 0, max: 0 },
  async run(invocation) {
    const { terminal, values, signal } = invocation;
    const issuer = stringOption(invocation, "issuer") ?? terminal.environment.SALLYPORT_ISSUER;
    const clientId = stringOption(invocation, "client-id") ?? terminal.environment.SALLYPORT_CLIENT_ID;
    const scope = stringOption(invocation, "scope");
    const profile = stringOption(invocation, "profile") ?? "id-token";
    if (issuer === undefined) throw new UsageError("it needs --issuer or SALLYPORT_ISSUER");
    if (clientId === undefined) throw new UsageError("it needs --client-id or SALLYPORT_CLIENT_ID");
    if (profile !== "id-token" && profile !== "access-token")
      throw new UsageError("--profile is id-token or access-token");
    const kept = await login({
      issuer,
      clientId,
      profile,
      ...(scope !== undefined && { scope }),
      ...(values.device === true ? { flow: "device" as const } : { openBrowser }),
      show: (text) => terminal.err(`${text}\n`),
      environment: terminal.environment,
      signal,
    });
    const who = describeToken(kept.token);
    if (values.json === true) printJson(terminal, { issuer, ...who });
    else
      terminal.out(
        `${paint(terminal, "green", "Logged in")} as ${escapeControls(who.user || who.subject)}${expiry(who.expiresAt)}.\n`,
      );
    return exitCodes.ok;
  },
};

export const tokenCommand: Command = {
  name: "token",
  summary: "Prints the caller's token, renewed where it must be; give it as the password of any PostgreSQL client.",
  synopsis: "[options]",
  options: {
    issuer: { type: "string", value: "url", help: "which login, where there are several" },
    "client-id": { type: "string", value: "id", help: "which login, where there are several" },
    json: { type: "boolean", help: "write JSON" },
  },
  positionals: { min: 0, max: 0 },
  async run(invocation) {
    const { terminal, values } = invocation;
    const issuer = stringOption(invocation, "issuer");
    const clientId = stringOption(invocation, "client-id");
    const token =
      issuer === undefined && clientId === undefined
        ? await callerToken(terminal.environment)
        : await currentToken({
            environment: terminal.environment,
            ...(issuer !== undefined && { issuer }),
            ...(clientId !== undefined && { clientId }),
          });
    if (values.json === true) printJson(terminal, { token, ...describeToken(token) });
    else terminal.out(`${token}\n`);
    return exitCodes.ok;
  },
};

/** What a token says of its bearer, unverified: the gateway verifies it. Empty where it is not a JWT. */
export function describeToken(token: string): { user: string; subject: string; expiresAt: string | null } {
  try {
    const { sub, email, exp } = decodeJwt(token);
    const subject = typeof sub === "string" ? sub : "";
    return {
      user: typeof email === "string" && email !== "" ? email : subject,
      subject,
      expiresAt: typeof exp === "number" ? new Date(exp * 1_000).toISOString() : null,
    };
  } catch {
    return { user: "", subject: "", expiresAt: null };
  }
}

const expiry = (time: string | null) =>
  time === null ? "" : `; the token lasts ${shortDuration(Date.parse(time) - Date.now())}`;

async function openBrowser(url: string): Promise<boolean> {
  const opener = process.platform === "darwin" ? "open" : "xdg-open";
  if (Bun.which(opener) === null) return false;
  const child = Bun.spawn([opener, url], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  return (await child.exited) === 0;
}
