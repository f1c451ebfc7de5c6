/**
 * OAUTHBEARER on the wire: a client of our own that may send what it likes, psql on libpq 18, a real identity provider
 * and a real PostgreSQL. Policy, recording and analyser are stand-ins: what these tests are about ends before them.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { startIdentityProvider } from "../../scripts/demo/identity-provider.ts";
import { hasPsql, libpq18 } from "../../scripts/postgres/installed.ts";
import { type RunningPostgres, startPostgres } from "../../scripts/postgres/server.ts";
import { startServerUnderTest } from "../../scripts/postgres/server-under-test.ts";
import { limits } from "../limits.ts";
import type { SessionDependencies } from "../session/dependencies.ts";
import type { SessionAnalyser } from "./analysed.ts";
import { decodeBackendMessage } from "./backend-decoder.ts";
import { encodeFrontendMessage, encodeStartupMessage } from "./frontend-encoder.ts";
import type { BackendMessage } from "./messages.ts";
import { FrameReader } from "./reader.ts";
import type { PostgresServer } from "./server.ts";
import { MessageWriter } from "./writer.ts";

let target: RunningPostgres;
let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
let server: PostgresServer;
let port: number;
let token: string;
/** What the verifier takes the time to be. */
let now = () => Date.now();

beforeAll(async () => {
  target = await startPostgres();
  provider = await startIdentityProvider({ users: [{ id: "ann", email: "ann@example.com", groups: ["analysts"] }] });
  token = await provider.mint("ann");
  const never = () => Promise.reject(new Error("not used here"));
  const store: SessionDependencies["store"] = {
    fingerprintSeen: async () => true,
    recordFingerprint: () => undefined,
    createApproval: never,
    getApproval: never,
    consumeApproval: never,
    expireApproval: never,
  };
  const allow = { verdict: "allow" as const, rules: [], masks: [], diagnostics: "full" as const };
  const policy = {
    revision: { digest: "sha256:test" },
    labelsOf: () => new Map<string, string[]>(),
    judgeSession: () => allow,
    forSession: () => ({ judge: () => ({ decision: allow }) }),
  };
  const analyser: SessionAnalyser = {
    context: {},
    analyse: (text) => ({
      command: { kind: "sql", fingerprint: text, complete: true, incomplete: [], statements: [] },
      plain: false,
      nameless: false,
      statements: [{ outputColumns: null, changesCatalog: false, changesSession: false }],
    }),
    labelsOf: () => undefined,
    isDerived: () => false,
    changed: false,
    stale: false,
    labelsOutdated: false,
    labels: new Map(),
    redefinitions: 0,
    isRedefined: () => false,
    noteForwarded: () => undefined,
    noteSettled: () => undefined,
    invalidate: () => undefined,
    refresh: async () => undefined,
    relabel: async () => undefined,
  };
  const ready = async () => undefined;
  ({ server, port } = await startServerUnderTest({
    target,
    configuration: {
      postgres: { authentication: "oauthbearer", oauth: { issuer: provider.issuer, scope: "openid email groups" } },
      identity: {
        issuers: [
          { issuer: "https://first.example", audience: "sallyport-cli" },
          { issuer: provider.issuer, audience: "sallyport-cli" },
        ],
      },
    },
    now: () => now(),
    recording: { session: () => ({ append: () => undefined, committed: ready, close: ready }) },
    ...{ policy, store, analyser },
  }));
}, 60_000);

afterAll(async () => {
  await server?.drain(0);
  await provider?.stop();
  await target?.stop();
});

/** A client that has been asked for OAUTHBEARER. */
class RawClient {
  readonly #socket: Socket;
  readonly #reader = new FrameReader({ messageBytesMax: 1_048_576 });
  readonly #chunks: AsyncIterator<Buffer>;

  constructor(user: string) {
    this.#socket = connect(port, "127.0.0.1");
    this.#chunks = this.#socket[Symbol.asyncIterator]();
    this.#socket.write(encodeStartupMessage(new MessageWriter(), 0, { user, database: "app" }).take());
  }
  /** Undefined once the gateway has closed the connection. */
  async next(): Promise<BackendMessage | undefined> {
    for (;;) {
      const frame = this.#reader.next();
      if (frame !== undefined) return decodeBackendMessage(frame);
      const chunk = await this.#chunks.next();
      if (chunk.done) return undefined;
      this.#reader.push(chunk.value);
    }
  }
  initial(data: string | Buffer | null, mechanism = "OAUTHBEARER"): void {
    const bytes = typeof data === "string" ? Buffer.from(data, "latin1") : data;
    this.#socket.write(
      encodeFrontendMessage(new MessageWriter(), { type: "SASLInitialResponse", mechanism, data: bytes }).take(),
    );
  }
  respond(data: string): void {
    const message = { type: "SASLResponse", data: Buffer.from(data, "latin1") } as const;
    this.#socket.write(encodeFrontendMessage(new MessageWriter(), message).take());
  }
  close(): void {
    this.#socket.destroy();
  }
}

async function asked(user = "ann@example.com"): Promise<RawClient> {
  const client = new RawClient(user);
  expect(await client.next()).toEqual({ type: "AuthenticationSASL", mechanisms: ["OAUTHBEARER"] });
  return client;
}

const bearer = (value: string) => `n,,\u0001auth=Bearer ${value}\u0001\u0001`;

/** The FATAL error that comes next, after which the connection is closed. */
async function fatal(client: RawClient): Promise<{ C: string; M: string }> {
  const message = await client.next();
  if (message?.type !== "ErrorResponse") throw new Error(`an error was expected, not ${message?.type}`);
  expect(message.fields.S).toBe("FATAL");
  expect(await client.next()).toBeUndefined();
  return { C: message.fields.C ?? "", M: message.fields.M ?? "" };
}

/** The challenge of RFC 7628 section 3.2.2, acknowledged; then the error. */
async function rejected(client: RawClient, acknowledgement = "\u0001"): Promise<{ C: string; M: string }> {
  const message = await client.next();
  if (message?.type !== "AuthenticationSASLContinue") throw new Error(`a challenge was expected, not ${message?.type}`);
  expect(JSON.parse(message.data.toString())).toEqual({
    status: "invalid_token",
    "openid-configuration": `${provider.issuer}/.well-known/openid-configuration`,
    scope: "openid email groups",
  });
  client.respond(acknowledgement);
  return fatal(client);
}

async function loggedIn(client: RawClient): Promise<void> {
  expect(await client.next()).toEqual({ type: "AuthenticationOk" });
  let message = await client.next();
  while (message !== undefined && message.type !== "ReadyForQuery") message = await client.next();
  expect(message?.type).toBe("ReadyForQuery");
  client.close();
}

describe("a client of OAUTHBEARER", () => {
  test("logs in by a good token", async () => {
    const client = await asked();
    client.initial(bearer(token));
    await loggedIn(client);
  });

  test("that leaves out the initial response gives it in answer to an empty challenge", async () => {
    const client = await asked();
    client.initial(null);
    expect(await client.next()).toEqual({ type: "AuthenticationSASLContinue", data: Buffer.alloc(0) });
    client.respond(bearer(token));
    await loggedIn(client);
    const silent = await asked();
    silent.initial(null);
    await silent.next();
    silent.respond("");
    expect((await fatal(silent)).C).toBe("08P01");
  });

  test("without a token is told where to get one", async () => {
    const client = await asked();
    client.initial("n,,\u0001auth=\u0001\u0001");
    expect(await rejected(client)).toEqual({
      C: "28000",
      M: 'OAuth bearer authentication failed for user "ann@example.com": no token was given',
    });
  });

  test("with a bad token is told so before the error, which names the user and none of the token", async () => {
    const bad = `${token.slice(0, -6)}AAAAAA`;
    const client = await asked();
    client.initial(bearer(bad));
    const { C, M } = await rejected(client);
    expect(C).toBe("28P01");
    expect(M).toStartWith('OAuth bearer authentication failed for user "ann@example.com"');
    expect(M).not.toContain(bad.slice(0, 12));
  });

  test("with an expired token is told so", async () => {
    now = () => Date.now() + 86_400_000;
    try {
      const client = await asked();
      client.initial(bearer(token));
      const { C, M } = await rejected(client);
      expect(C).toBe("28P01");
      expect(M).toContain("expired");
    } finally {
      now = () => Date.now();
    }
  });

  test("with another's user name is refused as with a bad token", async () => {
    const client = await asked("eve@example.com");
    client.initial(bearer(token));
    expect((await rejected(client)).C).toBe("28000");
  });

  test.each([
    ["another scheme", "n,,\u0001auth=Basic c2VjcmV0\u0001\u0001"],
    ["a token of other characters", bearer("se cret")],
  ])("with %s is told where to get a token, and refused", async (_, message) => {
    const client = await asked();
    client.initial(message);
    expect((await rejected(client)).C).toBe("08P01");
  });

  test("cannot go on to a good token where an acknowledgement is due", async () => {
    for (const answer of ["", "\u0001\u0001", bearer(token)]) {
      const client = await asked();
      client.initial(bearer("bad"));
      expect(await rejected(client, answer)).toEqual({
        C: "08P01",
        M: "malformed OAUTHBEARER message: a single ^A was expected",
      });
    }
  });

  test.each([
    ["an authorization identity", `n,a=root,\u0001auth=Bearer `],
    ["channel binding", `p=tls-exporter,,\u0001auth=Bearer `],
    ["two auth pairs", `n,,\u0001auth=Bearer x\u0001auth=Bearer `],
  ])("with a good token behind %s is refused at once", async (_, before) => {
    const client = await asked();
    client.initial(`${before}${token}\u0001\u0001`);
    expect((await fatal(client)).C).toBe("08P01");
  });

  test("with a message that is too long, or another mechanism, is refused at once", async () => {
    const long = await asked();
    long.initial(bearer("x".repeat(limits.tokenBytesMax + 1_024)));
    expect((await fatal(long)).C).toBe("08P01");
    const other = await asked();
    other.initial(bearer(token), "OAUTHBEARER-PLUS");
    expect((await fatal(other)).C).toBe("08P01");
  });
});

async function psql(conninfo: string, environment: Record<string, string>): Promise<string> {
  const child = Bun.spawn(
    ["psql", "-X", "-c", "select 1", `host=127.0.0.1 port=${port} user=ann@example.com dbname=app ${conninfo}`],
    {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
      env: { PATH: process.env.PATH ?? "", HOME: "/nonexistent", ...environment },
    },
  );
  return new Response(child.stderr).text();
}

describe.skipIf(!hasPsql || libpq18 === undefined)("psql", () => {
  const oauth = () => `oauth_issuer=${provider.issuer} oauth_client_id=sallyport-cli`;

  test("on libpq 18 accepts the issuer it is told, and lacks only a flow to get a token by", async () => {
    const said = await psql(oauth(), { LD_LIBRARY_PATH: libpq18 ?? "", PGOAUTHDEBUG: "UNSAFE" });
    expect(said).toContain("no OAuth flows are available");
  });

  test("on libpq 18 notices an issuer that is not the one it trusts", async () => {
    const said = await psql("oauth_issuer=https://other.example oauth_client_id=sallyport-cli", {
      LD_LIBRARY_PATH: libpq18 ?? "",
      PGOAUTHDEBUG: "UNSAFE",
    });
    expect(said).toContain("is incompatible with oauth_issuer (https://other.example)");
  });

  test("on libpq 18 that may use passwords only, and on an older libpq, says that it cannot log in", async () => {
    const environment = { LD_LIBRARY_PATH: libpq18 ?? "" };
    expect(await psql(`${oauth()} require_auth=scram-sha-256`, environment)).toContain(
      "authentication method requirement",
    );
    expect(await psql("", {})).toMatch(
      /none of the server's SASL authentication mechanisms are supported|oauth_issuer and oauth_client_id are not both set/,
    );
  });
});
