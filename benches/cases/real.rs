//! A message as they come, not made to be easy.

/// Thirty fields, a text, the same as HTML, an attachment.
pub(crate) fn message() -> Vec<u8> {
    let mut out = Vec::new();
    for hop in 0..6 {
        let line = format!(
            "Received: from mx{hop}.sender.example (mx{hop}.sender.example [192.0.2.{hop}])\r\n\tby \
             in.local.example with ESMTPS id 4f9a8c7d\r\n\tfor <c@local.example>; Wed, 25 Nov 2026 \
             04:11:19 +0000\r\n"
        );
        out.extend_from_slice(line.as_bytes());
    }
    for number in 0..14 {
        out.extend_from_slice(format!("X-Sender-Note-{number}: {}\r\n", "n".repeat(40)).as_bytes());
    }
    out.extend_from_slice(
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example; s=s1;\r\n\t\
          h=from:to:subject:date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=\r\n",
    );
    out.extend_from_slice(
        b"Date: Wed, 25 Nov 2026 04:11:19 +0000\r\nFrom: \"A. Sender\" <a.sender@sender.example>\r\n\
          To: Somebody Else <c@local.example>, d@local.example\r\nCc: e@other.example\r\n\
          Subject: Re: [list] =?utf-8?q?Gr=C3=BC=C3=9Fe?= from the benches\r\n\
          Message-ID: <20261125041119.4f9a8c7d@sender.example>\r\n\
          In-Reply-To: <1@sender.example>\r\nReferences: <0@sender.example> <1@sender.example>\r\n\
          MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"outer\"\r\n\r\n\
          --outer\r\nContent-Type: multipart/alternative; boundary=\"inner\"\r\n\r\n\
          --inner\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    );
    out.extend_from_slice(&b"Some words of the text, and some more of them.\r\n".repeat(40));
    out.extend_from_slice(b"--inner\r\nContent-Type: text/html; charset=utf-8\r\n\r\n");
    out.extend_from_slice(&b"<p>Some <b>words</b> of the text.</p>\r\n".repeat(60));
    out.extend_from_slice(
        b"--inner--\r\n--outer\r\nContent-Type: image/png; name=\"a.png\"\r\n\
          Content-Transfer-Encoding: base64\r\n\
          Content-Disposition: attachment; filename=\"a.png\"\r\n\r\n",
    );
    out.extend_from_slice(&[&b"iVBORw0K".repeat(9)[..], b"\r\n"].concat().repeat(40));
    out.extend_from_slice(b"--outer--\r\n");
    out
}
