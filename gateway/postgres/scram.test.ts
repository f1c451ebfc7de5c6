import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { limits } from "../limits.ts";
import { ScramClient, tlsServerEndPoint } from "./scram.ts";

const plain = { encrypted: false, endPoint: undefined };
const nonce = "rOprNGfwEbeRWgbNEkqO";
const serverNonce = `${nonce}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0`;
const first = (text: string) => new ScramClient(["SCRAM-SHA-256"], "pencil", plain, nonce).proceed(Buffer.from(text));
const codeOf = async (promise: Promise<unknown>) =>
  promise.then(
    () => "none",
    (error: { code?: string }) => error.code,
  );

describe("SCRAM-SHA-256", () => {
  test("proves the password and checks the server's proof", async () => {
    // RFC 7677's example has the user in the first message; PostgreSQL's has none, so the proof is another.
    const client = new ScramClient(["SCRAM-SHA-256"], "pencil", plain, nonce);
    expect(client.start().toString()).toBe(`n,,n=,r=${nonce}`);
    const final = await client.proceed(Buffer.from(`r=${serverNonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`));
    expect(final.toString()).toStartWith(`c=biws,r=${serverNonce},p=`);
    expect(() => client.finish(Buffer.from(`v=${Buffer.alloc(32).toString("base64")}`))).toThrow("could not prove");
    expect(() => client.finish(Buffer.from("e=other-error"))).toThrow("could not prove");
    expect(() => client.finish(Buffer.from("v="))).toThrow("could not prove");
  });
  test.each([
    ["a nonce that is not ours", "r=abc,s=AAAA,i=4096"],
    ["a nonce that adds nothing", `r=${nonce},s=AAAA,i=4096`],
    ["no salt", `r=${serverNonce},s=,i=4096`],
    ["no iterations", `r=${serverNonce},s=AAAA,i=0`],
    ["too many iterations", `r=${serverNonce},s=AAAA,i=${limits.scramIterationsMax + 1}`],
    ["an extension", `m=x,r=${serverNonce},s=AAAA,i=4096`],
    ["too long a message", `r=${serverNonce},s=${"A".repeat(4_096)},i=1`],
  ])("refuses %s", async (_, text) => {
    expect(await codeOf(first(text))).toBe("upstream.authentication");
  });
  test("binds the channel when it can, and says so when it could have", () => {
    const bound = { encrypted: true, endPoint: Buffer.alloc(32) };
    const both = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    expect(new ScramClient(both, "x", bound).start().toString()).toStartWith("p=tls-server-end-point,,");
    expect(new ScramClient(["SCRAM-SHA-256"], "x", bound).start().toString()).toStartWith("y,,");
    expect(new ScramClient(both, "x", plain).start().toString()).toStartWith("n,,");
    expect(() => new ScramClient(["SCRAM-SHA-256-PLUS"], "x", plain)).toThrow("no SASL mechanism");
  });
});

describe("a certificate's end point", () => {
  test.each(["sha1", "sha256", "sha384", "sha512"])("is hashed as its signature is (%s)", (hash) => {
    const { stdout } = spawnSync(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x", `-${hash}`],
      { stdio: ["ignore", "pipe", "ignore"] },
    );
    const { raw } = new X509Certificate(stdout);
    const expected = createHash(hash === "sha1" ? "sha256" : hash)
      .update(raw)
      .digest();
    expect(tlsServerEndPoint(Buffer.from(raw))).toEqual(expected);
  });
  test("is nothing for bytes that are no certificate", () => {
    for (const hex of ["", "30", "3082", "30843fffffff", "300430020000"]) {
      expect(tlsServerEndPoint(Buffer.from(hex, "hex"))).toBeUndefined();
    }
  });
});
