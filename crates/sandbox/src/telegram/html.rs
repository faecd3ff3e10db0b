//! The mark-up of messages, as the Bot API reads it: few tags, each closed, `<` escaped.

const TAGS: [&str; 13] = ["a", "b", "strong", "i", "em", "u", "ins", "s", "del", "code", "pre", "blockquote", "tg-spoiler"];

/// The text without its mark-up, or what is wrong with that.
pub(super) fn plain(html: &str) -> Result<String, String> {
    let mut text = String::with_capacity(html.len());
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some((before, from)) = rest.split_once('<') {
        text.push_str(before);
        let offset = html.len() - from.len() - 1;
        let Some((tag, after)) = from.split_once('>') else { return Err(format!("Unclosed start tag at byte offset {offset}")) };
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(last) if last == name.trim().to_lowercase() => {}
                Some(last) => {
                    return Err(format!(
                        "Unmatched end tag at byte offset {offset}, expected \"</{last}>\", found \"</{name}>\""
                    ));
                }
                None => return Err(format!("Unexpected end tag at byte offset {offset}")),
            }
            continue;
        }
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default().to_lowercase();
        let known = TAGS.contains(&name.as_str()) || name == "span" && tag.contains("tg-spoiler");
        if !known {
            return Err(format!("Unsupported start tag \"{name}\" at byte offset {offset}"));
        }
        open.push(name);
    }
    if let Some(last) = open.pop() {
        return Err(format!("Can't find end tag corresponding to start tag \"{last}\""));
    }
    text.push_str(rest);
    Ok(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}
