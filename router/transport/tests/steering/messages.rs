//! Messages that are, are nearly, or are not SIP, from a seed.

/// A small generator (xorshift64*), so that a failure is found again.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn text(&mut self, letters: &[u8], most: usize) -> String {
        let length = self.below(most);
        (0..length).map(|_| letters[self.below(letters.len())] as char).collect()
    }
}

/// One message.
pub(crate) fn message(random: &mut Random) -> Vec<u8> {
    if random.below(50) == 0 {
        let length = random.below(200) + 1;
        return (0..length).map(|_| random.below(256) as u8).collect();
    }
    let response = random.below(2) == 0;
    let start = match response {
        true => random.one(&["SIP/2.0 200 OK", "SIP/2.0 487 Gone", "SIP/2.0 ", "SIP/2.0"]),
        false => random.one(&["INVITE sip:a@b SIP/2.0", "ACK sip:a@b SIP/2.0", "BYE x", ""]),
    };
    let mut lines = vec![start.to_owned()];
    for _ in 0..random.below(12) {
        let line = header(random);
        lines.push(line);
    }
    if random.below(20) > 0 {
        let at = random.below(lines.len()) + 1;
        lines.insert(at.min(lines.len()), if response { via(random) } else { call_id(random) });
    }
    let end = random.one(&["\r\n", "\r\n", "\r\n", "\n"]);
    let mut bytes = lines.join(end).into_bytes();
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(random.one(&["\r\n", "\r\nbody: x\r\ni: 5\r\n", "", "\n"]).as_bytes());
    if random.below(30) == 0 {
        bytes.truncate(random.below(bytes.len()) + 1);
    }
    bytes
}

fn header(random: &mut Random) -> String {
    let name = random.one(&[
        "To",
        "From",
        "CSeq",
        "i-x",
        "iv",
        "Call-IDs",
        "all-ID",
        "v2",
        "Vias",
        "Call\rID",
        " i",
        "no colon here",
        "",
        "Contact",
        "\r",
    ]);
    let value = random.text(b"abc:;,=<>@ \t\r\"z9", 60);
    format!("{name}:{value}")
}

fn blanks(random: &mut Random) -> &'static str {
    random.one(&["", "", "", " ", "\t ", "   \r", "\x0c"])
}

fn call_id(random: &mut Random) -> String {
    let name = random.one(&["Call-ID", "call-id", "CALL-ID", "i", "I"]);
    let most = if random.below(10) == 0 { 200 } else { 50 };
    let value = random.text(b"abcdef0123456789@.-: \t\r", most);
    format!("{name}{}:{}{value}", blanks(random), blanks(random))
}

fn via(random: &mut Random) -> String {
    let name = random.one(&["Via", "via", "VIA", "v", "V"]);
    let mut line = format!("{name}{}:{}SIP/2.0/UDP 192.0.2.1", blanks(random), blanks(random));
    for _ in 0..random.below(3) {
        line.push_str(random.one(&[";rport", ";received=1.2.3.4", ";bran=x", ";; ", ",x;y", ";b"]));
    }
    let digits = b"0123456789abcdef";
    let worker = if random.below(4) > 0 {
        format!("{:02x}", random.below(4))
    } else {
        random.text(b"0123afAFg", 4)
    };
    let rest: String = (0..32).map(|_| digits[random.below(16)] as char).collect();
    let rest = if random.below(8) > 0 { rest } else { random.text(digits, 40) };
    let version = if random.below(8) > 0 { "1" } else { "2" };
    let name = random.one(&["branch=", "branch=", "Branch=", "BRANCH=", "branch =", "branch"]);
    line.push_str(&format!(";{}{name}z9hG4bK{version}{worker}{rest}", blanks(random)));
    line.push_str(blanks(random));
    line.push_str(random.one(&["", "", ";rport", ",SIP/2.0/UDP x;branch=1", ";branch=z9hG4bK1"]));
    line
}
