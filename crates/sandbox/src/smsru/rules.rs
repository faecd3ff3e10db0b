//! SMS.ru's rules that need no state: numbers, segments, times, and the texts of the codes.

use crate::wire;

/// The number as SMS.ru writes it back, and either its digits or the code that refuses it.
pub(super) fn phone(given: &str) -> (String, Result<u64, i64>) {
    let digits: String = given.chars().filter(char::is_ascii_digit).collect();
    let plus = given.trim_start().starts_with('+');
    let digits = match (digits.len(), digits.as_bytes().first()) {
        (11, Some(b'8')) if !plus => format!("7{}", &digits[1..]),
        (10, _) if !plus => format!("7{digits}"),
        _ => digits,
    };
    let number = digits.parse::<u64>().unwrap_or(0);
    let verdict = match (digits.len(), digits.as_bytes()) {
        // 76… and 77… are Kazakhstan's.
        (11, [b'7', b'6' | b'7', ..]) => Err(214),
        (11, [b'7', b'9', ..]) => Ok(number),
        // Land lines have a code that begins with 3, 4 or 8.
        (11, [b'7', b'3' | b'4' | b'8', ..]) => Err(207),
        (11, [b'7', ..]) => Err(202),
        (10..=15, _) => Err(214),
        _ => Err(202),
    };
    let key = if digits.is_empty() { given.trim().to_owned() } else { digits };
    (key, verdict)
}

const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡\
    ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
const GSM_EXTENDED: &str = "^{}\\[~]|€";

/// How many SMS a text takes.
pub(super) fn segments(text: &str, translit: bool) -> i64 {
    let mut septets = 0;
    let mut gsm = true;
    for letter in text.chars() {
        // Nearly all Latin; only then is the table, slow for Cyrillic, worth asking.
        if letter.is_ascii_alphanumeric() || GSM.contains(letter) {
            septets += 1;
        } else if GSM_EXTENDED.contains(letter) {
            septets += 2;
        } else if translit {
            // One Cyrillic letter becomes one to four Latin ones.
            septets += match letter.to_lowercase().next() {
                Some('щ') => 4,
                Some('ж' | 'ч' | 'ш' | 'ю' | 'я' | 'ё' | 'х' | 'ц') => 2,
                _ => 1,
            };
        } else {
            gsm = false;
            break;
        }
    }
    let (length, one, several) = if gsm { (septets, 160, 153) } else { (text.encode_utf16().count(), 70, 67) };
    let count = if length <= one { 1 } else { length.div_ceil(several) };
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Refuses a sending time that is no number or more than 60 days ahead; `daytime` makes the time void.
pub(super) fn time(given: &str, daytime: bool) -> Result<(), i64> {
    if given.is_empty() || daytime {
        return Ok(());
    }
    match given.parse::<i64>() {
        Ok(at) if at <= wire::now() + 60 * 86_400 => Ok(()),
        _ => Err(208),
    }
}

/// Refuses what is not a public address of the guest.
pub(super) fn user_ip(given: &str) -> Result<(), i64> {
    if given.is_empty() {
        return Ok(());
    }
    let public = match given.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        Ok(std::net::IpAddr::V6(ip)) => !(ip.is_loopback() || ip.is_unspecified()),
        Err(_) => false,
    };
    if public { Ok(()) } else { Err(507) }
}

pub(super) fn text(code: i64) -> &'static str {
    match code {
        -1 => "Сообщение не найдено",
        100 => "Сообщение находится в очереди",
        101 => "Сообщение передаётся оператору",
        102 => "Сообщение отправлено (в пути)",
        103 => "Сообщение доставлено",
        104 => "Не может быть доставлено: время жизни истекло",
        105 => "Не может быть доставлено: удалено оператором",
        106 => "Не может быть доставлено: сбой в телефоне",
        107 => "Не может быть доставлено: неизвестная причина",
        108 => "Не может быть доставлено: отклонено",
        110 => "Сообщение прочитано",
        150 => "Не может быть доставлено: не найден маршрут",
        200 => "Неправильный api_id",
        201 => "Не хватает средств на лицевом счету",
        202 => "Неправильно указан номер или на него нет маршрута",
        203 => "Нет текста сообщения",
        204 => "Имя отправителя не согласовано",
        205 => "Сообщение слишком длинное (больше 8 СМС)",
        206 => "Превышен дневной лимит сообщений",
        207 => "На этот номер нет маршрута для доставки сообщений",
        208 => "Параметр time указан неправильно",
        209 => "Номер находится в стоп-листе",
        210 => "Используется GET, где нужен POST",
        211 => "Метод не найден",
        212 => "Текст сообщения передан не в UTF-8",
        213 => "Указано слишком много номеров",
        214 => "Номер зарубежный, а включена отправка только по России",
        220 => "Сервис временно недоступен, попробуйте чуть позже",
        230 => "Превышен лимит сообщений на этот номер в день",
        231 => "Превышен лимит одинаковых сообщений на этот номер в минуту",
        232 => "Превышен лимит одинаковых сообщений на этот номер в день",
        300 => "Неправильный token",
        301 => "Неправильный api_id либо логин или пароль",
        507 => "IP-адрес пользователя указан неверно",
        901 => "Неправильный адрес callback",
        902 => "Адрес callback не найден",
        _ => "Ошибка на сервере",
    }
}

pub(super) fn check_text(code: i64) -> &'static str {
    match code {
        400 => "Авторизация по звонку: номер пока не подтвержден",
        401 => "Авторизация по звонку: номер подтвержден",
        _ => "Авторизация по звонку: истекло время или неверный check_id",
    }
}
