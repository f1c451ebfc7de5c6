import { describe, expect, test } from "bun:test";
import {
  type Decider,
  type HeldCommand,
  isAuditor,
  mayDecide,
  maySeeApproval,
  maySeeSession,
} from "./approval-rules.ts";

const idp = "https://idp.example";
const dba: Decider = { issuer: idp, subject: "dana", email: "dana@example.com", groups: ["dba"], kind: "human" };
const agent = { issuer: idp, subject: "agent-7", email: "agent-7@example.com" };
const held: HeldCommand = {
  state: "pending",
  requester: agent,
  from: ["dba", "oncall"],
  decidedBy: [],
  expiresAtMs: 1_000,
};
const code = (caller: Decider, approval: HeldCommand, nowMs = 0) => {
  const answer = mayDecide(caller, approval, nowMs);
  return answer.allowed ? "allowed" : answer.code;
};

describe("who may decide", () => {
  test("a person in one of the groups may", () => {
    expect(code(dba, held)).toBe("allowed");
    expect(code({ ...dba, groups: ["other", "oncall"] }, held)).toBe("allowed");
  });

  test("nobody decides their own, by subject or by e-mail in any case or Unicode form", () => {
    const own = (requester: HeldCommand["requester"]) => code(dba, { ...held, requester });
    expect(own({ issuer: idp, subject: "dana", email: "" })).toBe("approval.forbidden");
    expect(own({ issuer: "https://other.example", subject: "x", email: "Dana@Example.com" })).toBe(
      "approval.forbidden",
    );
    expect(own({ issuer: "https://other.example", subject: "x", email: "dana＠example.com" })).toBe(
      "approval.forbidden",
    );
    expect(own({ issuer: "https://other.example", subject: "dana", email: "" })).toBe("allowed");
    expect(code({ ...dba, email: "" }, { ...held, requester: { ...agent, email: "" } })).toBe("allowed");
  });

  test("an agent never decides, whatever its groups", () => {
    expect(code({ ...dba, kind: "agent" }, held)).toBe("approval.forbidden");
  });

  test("someone outside the groups does not, and an empty list of groups admits nobody", () => {
    expect(code({ ...dba, groups: [] }, held)).toBe("approval.forbidden");
    expect(code({ ...dba, groups: ["DBA"] }, held)).toBe("approval.forbidden");
    expect(code(dba, { ...held, from: [] })).toBe("approval.forbidden");
    expect(code({ ...dba, groups: [""] }, { ...held, from: [""] })).toBe("approval.forbidden");
  });

  test("only what is pending and unexpired is decided, and by each person once", () => {
    for (const state of ["approved", "denied", "expired", "cancelled"])
      expect(code(dba, { ...held, state })).toBe("approval.not_pending");
    expect(code(dba, held, 999)).toBe("allowed");
    expect(code(dba, held, 1_000)).toBe("approval.not_pending");
    expect(code(dba, { ...held, decidedBy: [dba] })).toBe("approval.not_pending");
    expect(code(dba, { ...held, decidedBy: [{ ...dba, issuer: "https://other.example" }] })).toBe(
      "approval.not_pending",
    );
  });
});

describe("who may see", () => {
  test("auditors come from policy data, and data of another shape makes nobody one", () => {
    expect(isAuditor({ groups: ["audit"] }, { auditors: ["audit"] })).toBe(true);
    for (const data of [
      undefined,
      null,
      "audit",
      {},
      { auditors: "audit" },
      { auditors: { audit: true } },
      { auditors: [""] },
    ])
      expect(isAuditor({ groups: ["audit", ""] }, data)).toBe(false);
  });

  test("a session is seen by its own identity and by auditors", () => {
    expect(maySeeSession({ ...dba }, { issuer: idp, subject: "dana" }, {})).toBe(true);
    expect(maySeeSession({ ...dba }, { issuer: "https://other.example", subject: "dana" }, {})).toBe(false);
    expect(maySeeSession({ ...dba }, agent, { auditors: ["dba"] })).toBe(true);
  });

  test("an approval is seen by who asked, who may decide and auditors", () => {
    const outsider: Decider = { ...dba, subject: "olga", email: "", groups: ["sales"] };
    expect(maySeeApproval(dba, held, {})).toBe(true);
    expect(maySeeApproval({ ...agent, groups: [], kind: "agent" }, held, {})).toBe(true);
    expect(maySeeApproval({ ...dba, kind: "agent" }, held, {})).toBe(false);
    expect(maySeeApproval(outsider, held, {})).toBe(false);
    expect(maySeeApproval(outsider, held, { auditors: ["sales"] })).toBe(true);
  });
});
