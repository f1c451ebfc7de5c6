/** Logins against a real OpenID provider on loopback, with `fetch` and a cookie jar in the place of the browser. */
import { afterAll, afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeJwt } from "jose";
import { startIdentityProvider } from "../../scripts/demo/identity-provider.ts";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import type { IssuerConfig } from "../config.ts";
import { credentialsFolder, credentialsPath, withCredentialsLock } from "./credentials-file.ts";
import { currentToken, type LoginOptions, login } from "./login.ts";
import { createVerifier } from "./verifier.ts";

const provider = await startIdentityProvider({
  users: [
    { id: "u-ana", email: "ana@demo.example", groups: ["analysts"] },
    { id: "u-reporter", email: "reporter@demo.example", groups: ["analysts"], client: "agent-reporter" },
  ],
  lifetimeSeconds: 600,
});
const { issuer } = provider;
const config: IssuerConfig = {
  issuer,
  audience: ["sallyport-cli", "agent-reporter"],
  profile: "id-token",
  algorithms: ["ES256"],
  groups_claim: "groups",
  agents: { claim: "azp", values: ["agent-*"] },
  clock_skew: 30_000,
  expiry_grace: 0,
};
const verifier = createVerifier([config]);
let home: string;
let environment: Record<string, string>;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "sallyport-login-"));
  environment = { XDG_CONFIG_HOME: home };
});
afterEach(() => rm(home, { recursive: true, force: true }));
afterAll(() => provider.stop());

/** Follows redirects with cookies until a page or an address that is not the provider's. */
class Browser {
  private readonly cookies = new Map<string, string>();

  async open(url: string, form?: Record<string, string>): Promise<{ url: string; page: string; status: number }> {
    let [at, body] = [url, form];
    for (let hop = 0; hop < 10; hop++) {
      const response = await fetch(at, {
        redirect: "manual",
        headers: { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
        ...(body !== undefined && { method: "POST", body: new URLSearchParams(body) }),
      });
      for (const line of response.headers.getSetCookie()) {
        const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
        if (value === "") this.cookies.delete(name);
        else this.cookies.set(name, value);
      }
      const location = response.headers.get("location");
      if (location === null) return { url: at, page: await response.text(), status: response.status };
      [at, body] = [new URL(location, at).href, undefined];
    }
    throw new Error("too many redirects");
  }
}

const match = (text: string, pattern: RegExp) => pattern.exec(text)?.[1] ?? "";

async function signIn(browser: Browser, url: string): Promise<{ url: string; page: string; status: number }> {
  const form = await browser.open(url);
  expect(form.page).toContain("ana@demo.example");
  return browser.open(form.url, { user: "u-ana" });
}

async function enterCode(shown: string): Promise<void> {
  const browser = new Browser();
  const address = match(shown, /Open (\S+) /);
  const entry = await browser.open(address);
  const confirm = await browser.open(address, {
    xsrf: match(entry.page, /name="xsrf" value="([^"]+)"/),
    user_code: match(shown, /code (\S+)$/),
  });
  const chooser = await browser.open(address, {
    xsrf: match(confirm.page, /name="xsrf" value="([^"]+)"/),
    user_code: match(confirm.page, /name="user_code" value="([^"]+)"/),
    confirm: "yes",
  });
  const done = await browser.open(chooser.url, { user: "u-ana" });
  expect(done.status).toBe(200);
}

/** The provider's interval is 5 s; the test need not wait that long. */
const impatient: NonNullable<LoginOptions["fetch"]> = async (url, init) => {
  const response = await fetch(url, init);
  if (!url.endsWith("/device/auth")) return response;
  return Response.json({ ...((await response.json()) as object), interval: 0.05 }, { status: response.status });
};

function byDevice(changes: Partial<LoginOptions> = {}) {
  const entered: Promise<void>[] = [];
  return login({
    issuer,
    clientId: "sallyport-cli",
    flow: "device",
    environment,
    fetch: impatient,
    show: (text) => entered.push(enterCode(text)),
    ...changes,
  });
}

function byBrowser(visit: (url: string) => Promise<unknown>, changes: Partial<LoginOptions> = {}) {
  return login({
    issuer,
    clientId: "sallyport-cli",
    environment,
    show: () => undefined,
    openBrowser: async (url) => {
      visit(url).catch(() => undefined);
      return true;
    },
    ...changes,
  });
}

test("the device flow gives a token that the gateway accepts, kept for its owner's eyes only", async () => {
  const entry = await byDevice();
  const { identity } = await verifier.verify(entry.token);
  expect(identity).toMatchObject({ subject: "u-ana", email: "ana@demo.example", groups: ["analysts"], kind: "human" });
  expect(await currentToken({ environment })).toBe(entry.token);
  const path = credentialsPath(environment, issuer, "sallyport-cli");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await stat(credentialsFolder(environment))).mode & 0o777).toBe(0o700);
  expect(await readdir(credentialsFolder(environment))).toHaveLength(1);
});

test("the browser flow uses PKCE, a nonce and a loopback redirect, and gives a token that the gateway accepts", async () => {
  let visited = new URL(issuer);
  const entry = await byBrowser((url) => {
    visited = new URL(url);
    return signIn(new Browser(), url);
  });
  expect(visited.searchParams.get("code_challenge_method")).toBe("S256");
  expect(visited.searchParams.get("redirect_uri")).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/callback$/);
  expect(decodeJwt(entry.token).nonce).toBe(visited.searchParams.get("nonce") ?? "");
  expect((await verifier.verify(entry.token)).identity.email).toBe("ana@demo.example");
  expect(entry.refreshToken).toBeString();
});

test("an answer with another state, path or issuer does not end the login", async () => {
  const statuses: number[] = [];
  await byBrowser(async (url) => {
    const redirect = new URL(url).searchParams.get("redirect_uri") ?? "";
    statuses.push((await fetch(`${redirect}?code=stolen&state=guess`)).status);
    statuses.push((await fetch(redirect.replace("callback", "other"))).status);
    await signIn(new Browser(), url);
  });
  expect(statuses).toEqual([400, 404]);
  const mixedUp = byBrowser(async (url) => {
    const { searchParams } = new URL(url);
    const answer = new URLSearchParams({
      code: "c",
      state: searchParams.get("state") ?? "",
      iss: "https://evil.example",
    });
    await fetch(`${searchParams.get("redirect_uri")}?${answer}`);
  });
  await mixedUp.then(
    () => expect.unreachable(),
    (error: Error) => expect(error.message).toContain("another identity provider"),
  );
});

test("a refusal at the provider ends the login", async () => {
  const refused = byBrowser(async (url) => {
    const { searchParams } = new URL(url);
    const state = searchParams.get("state") ?? "";
    const answer = new URLSearchParams({ error: "access_denied\u001b[2J", state, iss: issuer });
    await fetch(`${searchParams.get("redirect_uri")}?${answer}`);
  });
  await refused.then(
    () => expect.unreachable(),
    (error: Error) => expect(error.message).toContain("refused the login: access_denied?[2J"),
  );
});

test("a login that nobody completes ends in time, by device or browser", async () => {
  using _ = loweredLimits({ loginTimeoutMs: 300 });
  const from = performance.now();
  await expect(byDevice({ show: () => undefined })).rejects.toThrow();
  await expect(byBrowser(async () => undefined)).rejects.toThrow();
  expect(performance.now() - from).toBeWithin(550, 5_000);
});

test("falls back to the device flow where no browser opens", async () => {
  const entered: Promise<void>[] = [];
  const entry = await byBrowser(async () => undefined, {
    fetch: impatient,
    openBrowser: async () => false,
    show: (text) => entered.push(enterCode(text)),
  });
  expect((await verifier.verify(entry.token)).identity.subject).toBe("u-ana");
});

test("renews a token that is about to expire once for all who ask, and keeps the new one", async () => {
  const entry = await byDevice();
  const path = credentialsPath(environment, issuer, "sallyport-cli");
  await writeFile(path, JSON.stringify({ ...entry, expiresAtMs: Date.now() + 1_000 }));
  await Bun.sleep(1_100);
  const [renewed, another] = await Promise.all([currentToken({ environment }), currentToken({ environment })]);
  expect(another).toBe(renewed);
  expect(renewed).not.toBe(entry.token);
  expect((await verifier.verify(renewed)).identity.subject).toBe("u-ana");
  expect(JSON.parse(await readFile(path, "utf8")).token).toBe(renewed);
});

test("says to log in where there is no login, it has expired, or it cannot be renewed", async () => {
  await expect(currentToken({ environment })).rejects.toThrow("Nobody is logged in");
  const entry = await byDevice();
  const path = credentialsPath(environment, issuer, "sallyport-cli");
  const { refreshToken, ...without } = entry;
  await writeFile(path, JSON.stringify({ ...without, expiresAtMs: 1 }));
  await expect(currentToken({ environment })).rejects.toThrow("has expired");
  await writeFile(path, JSON.stringify({ ...entry, refreshToken: `${refreshToken}x`, expiresAtMs: 1 }));
  await expect(currentToken({ environment })).rejects.toThrow("could not be renewed");
  await writeFile(path, "{");
  await expect(currentToken({ environment })).rejects.toThrow("Nobody is logged in");
});

test("refuses to log in at an issuer that is not https", async () => {
  await expect(byDevice({ issuer: "http://198.51.100.7" })).rejects.toThrow("not https");
});

test("the demo's provider mints tokens for people and agents that the gateway tells apart", async () => {
  const ana = await verifier.verify(await provider.mint("u-ana", { lifetimeSeconds: 5 }));
  expect(ana.identity.kind).toBe("human");
  expect(ana.expiresAtMs).toBeLessThanOrEqual(Date.now() + 5_000);
  const reporter = await verifier.verify(await provider.mint("u-reporter"));
  expect(reporter.identity).toMatchObject({ kind: "agent", email: "reporter@demo.example" });
  await expect(provider.mint("nobody")).rejects.toThrow("no user");
});

test("the demo's minting grant is closed to everyone else", async () => {
  const response = await fetch(`${issuer}/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "urn:sallyport:demo:mint",
      client_id: "sallyport-cli",
      user: "u-ana",
      mint_secret: "guess",
    }),
  });
  expect(response.status).toBe(400);
});

test("one process at a time renews a login, whatever one that died has left, and none waits for that one", async () => {
  const path = join(home, "credentials.json");
  // As a version without locks of the system's left it.
  await writeFile(`${path}.lock`, "");
  await utimes(`${path}.lock`, 1, 1);
  const died = Bun.spawn([
    process.execPath,
    "-e",
    `import { withCredentialsLock } from ${JSON.stringify(join(import.meta.dir, "credentials-file.ts"))};
     await withCredentialsLock(${JSON.stringify(path)}, async () => process.kill(process.pid, "SIGKILL"));`,
  ]);
  await died.exited;
  let [underWay, most] = [0, 0];
  const startedAt = performance.now();
  const renewals = Array.from({ length: 8 }, () =>
    withCredentialsLock(path, async () => {
      underWay += 1;
      most = Math.max(most, underWay);
      await Bun.sleep(20);
      underWay -= 1;
    }),
  );
  await Promise.all(renewals);
  expect(most).toBe(1);
  expect(performance.now() - startedAt).toBeLessThan(5_000);
});
